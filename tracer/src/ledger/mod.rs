/*!
The books on source ports: events and dumps in, pools out.

Pure: no clock of its own, no look at the machine, no words for people. Memory
follows pools times owners, never connections.
*/

mod account;
mod books;
mod correct;
mod failures;
mod fold;
pub mod forecast;
mod meter;
mod reconcile;
mod row;
mod search;
mod space;
mod upkeep;

pub use books::{Drift, Feed, Ledger, Limits};

#[cfg(test)]
mod tests;
