/*! From a source to a view: what is known is kept up to date, and events are passed on. */

#[cfg(test)]
mod made_up;
pub mod output;
pub mod pump;
pub mod tracker;
