/*! A demo's stream as `tracer watch` shows it without `--all`; the verdict comes with the findings. */

use std::io;
use std::sync::Arc;

use crate::diagnosis::Verdict;
use crate::event::{Event, Kind};
use crate::host::process::Identity;
use crate::ledger::pool::Pool;
use crate::source::{Failure, Loss};
use crate::view::{Summary, View};

/// A view without opens and closes, which only the books need.
pub(super) struct Plain {
    /// The view.
    pub(super) view: Box<dyn View>,
    /// Whether pools and verdicts are shown at the end: people read the findings.
    pub(super) verdicts: bool,
}

impl View for Plain {
    fn event(&mut self, event: &Event, who: &Arc<Identity>, out: &mut Vec<u8>) -> io::Result<()> {
        match event.kind {
            Kind::Opened | Kind::Closed => Ok(()),
            _ => self.view.event(event, who, out),
        }
    }

    fn failure(
        &mut self,
        failure: &Failure,
        who: &Arc<Identity>,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        self.view.failure(failure, who, out)
    }

    fn tick(&mut self, now_ns: u64, out: &mut Vec<u8>) -> io::Result<()> {
        self.view.tick(now_ns, out)
    }

    fn loss(&mut self, now_ns: u64, loss: &Loss, out: &mut Vec<u8>) -> io::Result<()> {
        self.view.loss(now_ns, loss, out)
    }

    fn verdicts(
        &mut self,
        now_ns: u64,
        pools: &[Pool],
        verdicts: &[Verdict],
        last: bool,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        if last && self.verdicts {
            self.view.verdicts(now_ns, pools, verdicts, last, out)?;
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        self.view.finish(out)
    }

    fn summary(&mut self, summary: &Summary, out: &mut Vec<u8>) -> io::Result<()> {
        self.view.summary(summary, out)
    }
}
