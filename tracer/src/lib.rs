/*!
The loader and the parts of the `tracer` binary.

Data flows one way: kernel → source → ledger → diagnosis → state → view. Only
[`kernel`] knows aya, only [`host`] reads the machine; what lies between is pure. A
[`source`] tells what happens, a [`stream`] keeps the [`state`] by it, a [`view`] reads that.
*/

pub mod cli;
pub mod commands;
pub mod diagnosis;
pub mod exit;
pub mod gate;
pub mod host;
pub mod kernel;
pub mod ledger;
pub mod model;
pub mod sandbox;
pub mod source;
pub mod state;
pub mod stream;
pub mod view;
