/*!
The domain's plain words: event, process, pool, socket, cause, errno, settings, losses, what is asked
for, what a machine was found to allow.

Data, and what follows from it alone, which every other room speaks. Imports nothing else of ours.
*/

mod about;
mod cause;
mod checks;
mod errno;
mod event;
mod loss;
mod place;
mod pool;
mod process;
#[cfg(test)]
pub(crate) mod sample;
mod selection;
mod settings;
mod socket;

pub use self::about::About;
pub use self::cause::Cause;
pub use self::checks::{Check, Report, Status};
pub use self::errno::Error;
pub use self::event::{
    Closer, Direction, EndReason, Event, Failure, Kind, Ownership, TIME_WAIT_NS, Tuple,
};
pub use self::loss::{Evicted, Loss, Lost, Shortfall};
pub use self::place::Place;
pub use self::pool::{
    Capacity, Elsewhere, Ends, Failed, Forecast, Foretold, Holder, OwnerId, Pool, PoolId, Rates,
};
pub use self::process::{COMM_LEN, Process, Runtime, Task, TaskName};
pub use self::selection::Selection;
pub use self::settings::{Namespace, PortRange, TwReuse};
pub use self::socket::{DueIn, Dump, Listed, States, TcpState};
