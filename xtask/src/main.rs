/*! To come. */
fn main() {}
