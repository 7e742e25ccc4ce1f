/*!
When sockets are listed, and whose the listed sockets are: the scheduler of
socket dumps, and what is remembered between them.
*/

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use foldhash::HashMap;

use super::survey::{Answer, Ask, Reading, Survey};
use crate::model::{Process, TcpState};
use crate::source::{Batch, Item};

/// Time between two looks at every process for the owners of sockets, ns.
const OWNERS_EVERY_NS: u64 = 10_000_000_000;

/// A namespace that no reading had for this long is gone, ns: it took its sockets along.
const GONE_NS: u64 = 120_000_000_000;

/// The owners that the programs know, by socket cookie.
pub(super) type Traced = HashMap<u64, Arc<Process>>;

/// The scheduler.
pub(super) struct Dumps {
    survey: Survey,
    /// Those asked for; none for all.
    namespaces: Vec<u32>,
    /// Owners of sockets that were found among the processes, by namespace and cookie: only of
    /// sockets that opened before tracing, as long as they are there.
    found: HashMap<u32, HashMap<u64, Arc<Process>>>,
    /// Namespaces with open sockets whose owner is not known; none before the first reading.
    nameless: Option<BTreeSet<u32>>,
    /// When a reading last had each namespace, ns.
    seen: HashMap<u32, u64>,
    next_owners_ns: u64,
    /// Open connections of the pools that they were filling, by namespace, when it was last listed.
    filled: HashMap<u32, u64>,
    /// Namespaces that the last reading had no time for.
    unlisted: u64,
}

impl Dumps {
    /// Of these namespaces, or of all.
    pub(super) fn new(survey: Survey, namespaces: Vec<u32>) -> Self {
        Self {
            survey,
            namespaces,
            found: HashMap::default(),
            nameless: None,
            seen: HashMap::default(),
            next_owners_ns: 0,
            filled: HashMap::default(),
            unlisted: 0,
        }
    }

    /// Asks for a reading if one is due; says so once when none will come any more.
    pub(super) fn ask_if_due(&mut self, now_ns: u64) -> Option<Item> {
        if !self.survey.is_due() || self.ask(now_ns, false) {
            return None;
        }
        let words = "sockets are no longer listed: the thread that did so has ended; from now on \
                     what no event tells is not known";
        Some(Item::Notice(words.to_owned()))
    }

    /// Asks for a reading; with `whole` of all namespaces. False when none will come.
    pub(super) fn ask(&mut self, now_ns: u64, whole: bool) -> bool {
        let nameless = self.nameless.as_ref().is_none_or(|some| !some.is_empty());
        let owners = nameless && now_ns >= self.next_owners_ns;
        if owners {
            self.next_owners_ns = now_ns + OWNERS_EVERY_NS;
        }
        self.survey.ask(Ask {
            namespaces: self.namespaces.clone(),
            owners,
            whole,
        })
    }

    /// Asks for the bare sockets of one namespace.
    pub(super) fn ask_for_sockets(&mut self, netns: u32) {
        self.survey.ask_for_sockets(netns);
    }

    /// Whether an answer is outstanding.
    pub(super) fn expects(&self) -> bool {
        self.survey.is_waiting()
    }

    /// Time until the next reading may be asked for.
    pub(super) fn due_in(&self) -> Duration {
        self.survey.due_in()
    }

    /// The next answer; see [`Survey::answer`].
    pub(super) async fn answer(&mut self) -> Answer {
        self.survey.answer().await
    }

    /// Names the owners the programs know (`traced`, asked for only where there is a socket), and
    /// those found before, and puts the dumps into `batch`.
    ///
    /// # Errors
    /// Those of `traced`.
    pub(super) fn book(
        &mut self,
        reading: Reading,
        now_ns: u64,
        traced: impl FnOnce() -> anyhow::Result<Traced>,
        batch: &mut Batch,
    ) -> anyhow::Result<()> {
        let Reading {
            dumps,
            filled,
            late,
            ..
        } = reading;
        let (unlisted, words) = late.unzip();
        if self.unlisted == 0 {
            batch.items.extend(words.map(Item::Notice));
        }
        self.unlisted = unlisted.unwrap_or_default();
        batch.push(Item::Unlisted(self.unlisted));
        // While open connections, of which readings tell, fill pools, the next one comes sooner.
        let before: u64 = self.filled.values().sum();
        self.filled.extend(filled);
        let now: u64 = self.filled.values().sum();
        self.survey.look_closely(now > before + before / 50);
        let traced = if dumps.iter().any(|dump| !dump.sockets.is_empty()) {
            traced()?
        } else {
            Traced::default()
        };
        let nameless = self.nameless.get_or_insert_default();
        for mut dump in dumps {
            let netns = dump.namespace.inode;
            self.seen.insert(netns, dump.ended_ns);
            let before = self.found.remove(&netns).unwrap_or_default();
            let mut found = HashMap::default();
            let mut all_named = true;
            for socket in &mut dump.sockets {
                if socket.cookie == 0 || socket.remote.port() == 0 {
                    continue;
                }
                if let Some(process) = traced.get(&socket.cookie) {
                    socket.process = Some(Arc::clone(process));
                    continue;
                }
                let known = socket
                    .process
                    .as_ref()
                    .or_else(|| before.get(&socket.cookie));
                if let Some(process) = known.cloned() {
                    found.insert(socket.cookie, Arc::clone(&process));
                    socket.process = Some(process);
                } else if socket.state != TcpState::TimeWait {
                    all_named = false;
                }
            }
            if !found.is_empty() {
                self.found.insert(netns, found);
            }
            if all_named {
                nameless.remove(&netns);
            } else {
                nameless.insert(netns);
            }
            batch.push(Item::Dump(Box::new(dump)));
        }
        self.seen.retain(|&inode, &mut seen_ns| {
            let there = now_ns.saturating_sub(seen_ns) < GONE_NS;
            if !there {
                batch.push(Item::Gone(inode));
                self.found.remove(&inode);
                self.filled.remove(&inode);
                nameless.remove(&inode);
            }
            there
        });
        Ok(())
    }
}
