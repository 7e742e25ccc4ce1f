/*! What the kernel side says in words (aya-log): conditions so rare that they have no event. */

use std::sync::{Arc, Mutex, PoisonError};

use aya::Ebpf;
use aya_log::EbpfLogger;

/// Most messages kept between two looks; more of the same say nothing new.
const KEPT: usize = 32;

/// Messages of the kernel side.
pub(crate) struct Surprises {
    logger: Option<EbpfLogger<Collector>>,
    messages: Arc<Mutex<Vec<String>>>,
}

struct Collector(Arc<Mutex<Vec<String>>>);

impl log::Log for Collector {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let mut messages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if messages.len() < KEPT {
            messages.push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

impl Surprises {
    /// Takes the log's map out of the object. An object whose messages the linker found
    /// unreachable has no such map, and no surprises.
    pub(crate) fn new(ebpf: &mut Ebpf) -> Self {
        let messages = Arc::new(Mutex::new(Vec::new()));
        let logger = EbpfLogger::init_with_logger(ebpf, Collector(Arc::clone(&messages)))
            .map_err(|error| log::debug!("no kernel-side log: {error}"))
            .ok();
        Self { logger, messages }
    }

    /// Reads what has come.
    pub(crate) fn flush(&mut self) {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
    }

    /// Hands over what was read.
    pub(crate) fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.messages.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
