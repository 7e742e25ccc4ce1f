/*! Two tracers over one world. */

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use tracer::kernel::hooks::{INFERRED, TRACEPOINT, TRAMPOLINE};
use tracer::sandbox::workload::{Manner, Report, Work};
use tracer::sandbox::{Process, Settings, Side};

use super::story::{Story, assert_same};
use crate::hooks::Doctor;
use crate::trace::{Trace, Tracer, sum};
use crate::world::{SOON, Skip, World};

/// What must hold of what both told of a play, beyond being the same.
pub(super) type Check = Box<dyn FnOnce(&Told<'_>)>;

/// A play: its name, its world, and what happens there.
pub(super) type Play = (&'static str, Settings, fn(&mut Stage) -> Check);

/// Gives all plays, each in a world of its own, under two tracers, and compares what these told.
pub(super) fn perform(plays: &[Play]) -> Result<(), Skip> {
    if Doctor::ask()?.refuses_trampolines() {
        return Err(Skip("this kernel refuses trampolines".to_owned()));
    }
    // Each has two tracers, and these many events twice.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    // All worlds before the tracers: one that is gone leaves its inode to another.
    let stages = plays.iter().map(|(_, settings, _)| Stage::new(settings));
    let stages = stages.collect::<Result<Vec<_>, _>>()?;
    // One refused alone is a fault, and no reason to skip.
    let watch = |backend| {
        Tracer::watch(&["--all", "--backend", backend])
            .unwrap_or_else(|Skip(said)| panic!("--backend {backend}: {said}"))
    };
    let tracers = [watch(TRAMPOLINE), watch(TRACEPOINT)];
    let mut played = Vec::new();
    for ((name, _, play), mut stage) in plays.iter().zip(stages) {
        let check = play(&mut stage);
        played.push((name, stage, check));
    }
    let [trampoline, tracepoint] = tracers.map(Tracer::stop);
    for trace in [&trampoline, &tracepoint] {
        trace.assert_whole();
    }
    for fact in ["connect", "bind", "time_wait", "time_wait_end"] {
        let given = &trampoline.summary()["backend"][fact];
        assert_eq!(given, TRAMPOLINE, "{fact}");
        let given = &tracepoint.summary()["backend"][fact];
        assert_ne!(given, TRAMPOLINE, "{fact}");
    }
    // Each play is judged, so that all that are affected are named.
    let mut failed = Vec::new();
    for (name, stage, check) in played {
        let judged = catch_unwind(AssertUnwindSafe(|| {
            stage.compare(&trampoline, &tracepoint);
            check(&Told {
                client: stage.world.pair.inode(Side::Client),
                trampoline: &trampoline,
                tracepoint: &tracepoint,
            });
        }));
        if judged.is_err() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "the backends do not agree on {failed:?}");
    Ok(())
}

/// The world of a play.
pub(super) struct Stage {
    world: World,
    server: Option<Process>,
    /// Alive, so that both tracers can read who they are; some keep their connections.
    clients: Vec<Process>,
    /// Types of lines that tracepoints infer here.
    inferred: BTreeSet<&'static str>,
}

impl Stage {
    fn new(settings: &Settings) -> Result<Self, Skip> {
        let world = World::new(settings)?;
        if !world.pair.has_v6() {
            return Err(Skip("this kernel does no IPv6".to_owned()));
        }
        Ok(Self {
            world,
            server: None,
            clients: Vec::new(),
            inferred: BTreeSet::new(),
        })
    }

    /// Starts the server.
    pub(super) fn serve(&mut self, manner: Manner) {
        self.server = Some(self.world.server(manner));
    }

    /// Ends the server, and with it the connections it keeps.
    pub(super) fn dismiss(&mut self) {
        let mut server = self.server.take().unwrap();
        server.release();
        server.wait(SOON).unwrap();
    }

    /// Lets one client work to its end, and keeps it.
    pub(super) fn act(&mut self, name: &str, work: &Work) -> Report {
        let reports = self.act_at_once(&[(name, work.clone())]);
        reports.into_iter().next().unwrap()
    }

    /// Lets several clients work at once, and keeps them.
    pub(super) fn act_at_once(&mut self, works: &[(&str, Work)]) -> Vec<Report> {
        let clients = works
            .iter()
            .map(|(name, work)| self.world.client(name, work));
        let mut clients: Vec<_> = clients.collect();
        for client in &mut clients {
            client.go().unwrap();
        }
        let reports = clients
            .iter_mut()
            .map(|client| client.report(SOON).unwrap());
        let reports = reports.collect();
        self.clients.extend(clients);
        reports
    }

    /// Waits until the client's side has so many sockets in a state.
    pub(super) fn settle(&self, state: u8, count: u64) {
        let count = usize::try_from(count).unwrap();
        self.world.wait_for(Side::Client, state, count);
    }

    /// Waits until the client's side has nothing but TIME_WAITs.
    pub(super) fn expire(&self) {
        self.world.wait_until_over(Side::Client);
    }

    /// Ends the server and waits until no connection is open or closing.
    pub(super) fn leave(&mut self) {
        self.dismiss();
        for side in [Side::Client, Side::Server] {
            self.world.wait_until_over(side);
        }
    }

    /// Expects that tracepoints mark lines of this type as inferred.
    pub(super) fn infers(&mut self, kind: &'static str) {
        self.inferred.insert(kind);
    }

    /// Both must have told the same of both sides.
    fn compare(&self, trampoline: &Trace, tracepoint: &Trace) {
        // Without cookies tracepoints conclude a birth from its FIN_WAIT2, and not its substate.
        let births_inferred = tracepoint.summary()["backend"]["time_wait"] == INFERRED;
        let mut inferred = self.inferred.clone();
        if births_inferred {
            inferred.insert("time_wait");
        }
        for side in [Side::Client, Side::Server] {
            let netns = self.world.pair.inode(side);
            let story = |trace| Story::of(trace, netns, births_inferred);
            assert_same(side, &story(trampoline), &story(tracepoint));
            assert_inferred(trampoline, netns, &BTreeSet::new());
            assert_inferred(tracepoint, netns, &inferred);
        }
    }
}

/// Lines of these types must be marked as inferred, and no others.
fn assert_inferred(trace: &Trace, netns: u32, kinds: &BTreeSet<&str>) {
    let lines = trace.lines.iter().filter(|line| line["netns"] == netns);
    for line in lines {
        let inferred = kinds.contains(line["type"].as_str().unwrap());
        // Where tasks are preempted within programs, an open may only be seen by what came of it.
        let may_be = line["type"] == "opened" && trace.summary()["backend"]["witness"].is_string();
        if may_be {
            continue;
        }
        assert_eq!(line["inferred"] == true, inferred, "{line}");
    }
}

/// What both told, the same as far as it goes.
pub(super) struct Told<'a> {
    /// The client's namespace.
    pub(super) client: u32,
    pub(super) trampoline: &'a Trace,
    pub(super) tracepoint: &'a Trace,
}

impl Told<'_> {
    /// The client's failures of a cause: so many, of which at least one line is there.
    pub(super) fn assert_failures(&self, kind: &str, cause: &str, count: u64) {
        for trace in [self.trampoline, self.tracepoint] {
            let mut lines = trace.of(kind, self.client);
            lines.retain(|line| line["cause"] == cause);
            assert_eq!(sum(&lines), count, "{cause}: {lines:#?}");
        }
    }

    /// The client's connections that one side closed first.
    pub(super) fn assert_closed(&self, closer: &str, count: usize) {
        for trace in [self.trampoline, self.tracepoint] {
            let mut lines = trace.of("closed", self.client);
            lines.retain(|line| line["closer"] == closer);
            assert_eq!(lines.len(), count, "{closer}: {lines:#?}");
        }
    }

    /// Trampolines time the port search: a part of connect(). Tracepoints see only one that failed.
    pub(super) fn assert_searched(&self, kind: &str, count: u64) {
        let lines = self.trampoline.of(kind, self.client);
        assert!(lines.len() as u64 >= count && !lines.is_empty(), "{kind}");
        for line in lines {
            let search = line["search_ns"].as_u64().unwrap_or_default();
            let duration = line["duration_ns"].as_u64();
            assert!(search > 0, "{line}");
            assert!(duration.is_none_or(|duration| search <= duration), "{line}");
        }
        if kind == "opened" {
            for line in self.tracepoint.of(kind, self.client) {
                assert_eq!(line["search_ns"], Value::Null, "{line}");
            }
        }
    }

    /// There must be a verdict; that it is the same was compared.
    pub(super) fn assert_verdicts(&self) {
        let verdicts = crate::findings::verdicts(&self.trampoline.lines, self.client);
        assert!(!verdicts.is_empty());
    }
}
