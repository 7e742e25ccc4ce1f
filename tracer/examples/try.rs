use std::time::{Duration, Instant};
use tracer::kernel::{probes::*, trial};
fn main() {
    let t = Instant::now();
    let k = trial::run(if std::env::args().nth(2).is_some() {
        trial::Choice::Tracepoint
    } else {
        trial::Choice::Auto
    });
    println!("trial {:?}", t.elapsed());
    let k = match k {
        Ok(k) => k,
        Err(e) => {
            println!("{e:#} {e:?}");
            return;
        }
    };
    for t in &k.trials {
        println!(
            "{:12} {:11} {:24} {:?}",
            t.group.fact, t.group.backend, t.hook.program, t.result
        );
    }
    let mut p = match Probes::attach_to(
        &k,
        &Options {
            all: true,
            ..Default::default()
        },
    ) {
        Ok(p) => p,
        Err(e) => {
            println!("{e} {e:?}");
            return;
        }
    };
    println!("{:?} {:?}", p.backend(), t.elapsed());
    let secs: u64 = std::env::args()
        .nth(1)
        .unwrap_or("3".into())
        .parse()
        .unwrap();
    let t = Instant::now();
    let mut kinds = [0u64; 8];
    while t.elapsed() < Duration::from_secs(secs) {
        p.drain(&mut |r|{ let e:tracer_ebpf::Event=unsafe{std::ptr::read_unaligned(r.as_ptr().cast())}; kinds[e.kind as usize]+=1;
      if kinds[e.kind as usize]<6 {println!("kind {} comm {} tid {} flags {} errno {} cause {} closer {} dir {} st {} {:?} -> {:?} :{}->{} dur {} search {} cookie {} ns {}",e.kind,String::from_utf8_lossy(&e.owner.comm),e.owner.tid,e.flags,e.errno,e.cause,e.closer,e.direction,e.state,std::net::Ipv6Addr::from(e.tuple.src),std::net::Ipv6Addr::from(e.tuple.dst),e.tuple.sport,e.tuple.dport,e.duration_ns,e.search_ns,e.cookie,e.tuple.netns);}});
        std::thread::sleep(Duration::from_millis(20));
    }
    p.detach().unwrap();
    println!(
        "{kinds:?} counters {:?} misses {:?}",
        p.counters().unwrap(),
        p.misses()
    );
    for (k, c) in p.failures().unwrap() {
        println!(
            "fail tgid {} errno {} cause {} kind {} count {} dst {} {}",
            k.tgid,
            k.errno,
            k.cause,
            k.kind,
            c.count,
            std::net::Ipv6Addr::from(k.dst),
            k.dport
        );
    }
    for s in p.surprises() {
        println!("SURPRISE {s}");
    }
}
