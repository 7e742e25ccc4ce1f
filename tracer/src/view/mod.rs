/*! One file a renderer; each writes to an `impl Write` and never reads the host. */

pub mod checks;
