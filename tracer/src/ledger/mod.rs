/*!
The books on source ports: events and dumps in, pools out.

Pure: no clock of its own, no look at the machine, no words for people. Memory
follows pools times owners, never connections.
*/

pub mod dump;
pub mod pool;
