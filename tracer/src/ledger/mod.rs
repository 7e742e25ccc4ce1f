/*!
The books on source ports: events and dumps in, pools out.

Pure: no clock of its own, no look at the machine, no words for people. Memory
follows pools times owners, never connections.
*/

mod account;
mod books;
mod correct;
pub mod dump;
mod failures;
mod fold;
pub mod forecast;
mod meter;
pub mod pool;
mod reconcile;
mod row;
mod search;
mod space;
mod upkeep;

pub use books::{Drift, Evicted, Feed, Ledger, Limits};

#[cfg(test)]
mod tests;
