/*!
Throwaway network namespaces and real failing workloads, for `tracer demo` and
the tests.

A [`Pair`] is two anonymous namespaces with a veth between them; a [`Process`]
is a real client or server in one of them, doing a [`workload`] and counting
what it did. Nothing of it has a name in the file system, and every process
dies with its parent, so that not even a kill -9 leaves anything behind.
*/

mod link;
mod pair;
mod process;
pub mod workload;

pub use pair::{
    CLIENT_V4, CLIENT_V6, FOREIGN_V4, Pair, SERVER_V4, SERVER_V6, SILENT_V4, Settings, Side,
    UNROUTED_V4,
};
pub use process::Process;
