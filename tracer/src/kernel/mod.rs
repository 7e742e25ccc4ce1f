/*! The only folder that knows aya: load, attach, drain, and what the kernel allows. */

pub mod layout;
pub mod preflight;
pub mod probes;
