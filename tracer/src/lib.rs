/*!
The loader and the parts of the `tracer` binary.

Data flows one way: kernel → event → ledger → diagnosis → view. Only
[`kernel`] knows aya, only [`host`] reads the machine; what lies between is pure.
*/

pub mod cli;
pub mod commands;
pub mod diagnosis;
pub mod event;
pub mod exit;
pub mod gate;
pub mod host;
pub mod kernel;
pub mod ledger;
pub mod sandbox;
pub mod source;
pub mod stream;
pub mod view;
