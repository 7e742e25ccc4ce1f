/*! Parsers on text as the kernel writes it, and the real files in a namespace made for the test. */

use super::{
    FinTimeout, NotOfForm, PortRange, ReservedPorts, SysctlError, TwReuse, get, read, write,
};
use crate::host::netns::Netns;

fn range(low: u16, high: u16) -> PortRange {
    PortRange { low, high }
}

#[test]
fn reads_the_port_range() {
    assert_eq!("32768\t60999\n".parse(), Ok(range(32768, 60999)));
    assert_eq!("1 65535".parse(), Ok(range(1, 65535)));
    assert_eq!("7 7".parse(), Ok(range(7, 7)));
    for text in [
        "",
        "32768",
        "60999 32768",
        "1 2 3",
        "1 70000",
        "a b",
        "-1 5",
    ] {
        let form = NotOfForm("two ports, the lower first");
        assert_eq!(text.parse::<PortRange>(), Err(form), "{text}");
    }
    assert_eq!(range(32768, 60999).ports(), 28_232);
    assert_eq!(range(0, 65535).ports(), 65_536);
    assert_eq!(range(7, 7).ports(), 1);
}

#[test]
fn reads_the_reserved_ports() {
    let ports = |text: &str| text.parse::<ReservedPorts>().unwrap();
    assert_eq!(ports("\n"), ReservedPorts::default());
    let some = ports("8080,9000-9010\n");
    assert!(some.contains(8080) && some.contains(9000) && some.contains(9010));
    assert!(!some.contains(8081) && !some.contains(8999) && !some.contains(9011));
    assert_eq!(some.within(range(1, 65535)), 12);
    assert_eq!(some.within(range(9005, 9100)), 6);
    assert_eq!(some.within(range(9011, 9100)), 0);
    assert_eq!(ports("10-20,15-30,31,31").within(range(1, 65535)), 22);
    assert_eq!(ports("65535,0-65535").within(range(0, 65535)), 65_536);
    for text in ["x", "1-", "-1", "9-8", "1,70000", "1--2"] {
        assert!(text.parse::<ReservedPorts>().is_err(), "{text}");
    }
}

#[test]
fn reads_the_numbers() {
    assert_eq!("0\n".parse(), Ok(TwReuse::Off));
    assert_eq!("1\n".parse(), Ok(TwReuse::On));
    assert_eq!("2\n".parse(), Ok(TwReuse::LoopbackOnly));
    assert!("3".parse::<TwReuse>().is_err());
    assert_eq!("60\n".parse(), Ok(FinTimeout(60)));
    assert!("soon".parse::<FinTimeout>().is_err());
}

#[test]
fn names_what_is_missing() {
    let error = read("net/ipv4/no_such_thing").unwrap_err();
    assert!(matches!(error, SysctlError::Missing(_)));
    assert!(
        error.to_string().contains("net/ipv4/no_such_thing"),
        "{error}"
    );
    let error = write("net/ipv4/no_such_thing", 1).unwrap_err();
    assert!(matches!(error, SysctlError::Missing(_)), "{error}");
}

#[test]
fn names_what_it_read_and_wanted() {
    let error = get::<PortRange>("net/ipv4/tcp_fin_timeout").unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, SysctlError::Malformed { .. }), "{text}");
    assert!(
        text.contains("tcp_fin_timeout") && text.contains("two ports"),
        "{text}"
    );
}

#[test]
fn what_is_set_inside_is_not_seen_outside() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipping what_is_set_inside_is_not_seen_outside: it needs root");
        return;
    }
    let outside = (PortRange::read().unwrap(), TwReuse::read().unwrap());
    let inside = (range(40000, 40099), TwReuse::Off);
    assert_ne!(
        outside.0, inside.0,
        "the test must set another range than the machine's"
    );
    let ns = Netns::anonymous().unwrap();
    ns.run_in(|| {
        inside.0.write().unwrap();
        inside.1.write().unwrap();
        write(ReservedPorts::NAME, "40010-40019,40050").unwrap();
        assert_eq!(
            (PortRange::read().unwrap(), TwReuse::read().unwrap()),
            inside
        );
    })
    .unwrap();
    assert_eq!(
        (PortRange::read().unwrap(), TwReuse::read().unwrap()),
        outside
    );

    let (seen, reserved) = ns
        .run_in(|| (PortRange::read().unwrap(), ReservedPorts::read().unwrap()))
        .unwrap();
    assert_eq!(seen, inside.0, "it did not last");
    assert_eq!(reserved.within(seen), 11);
    assert_eq!(
        ns.run_in(|| FinTimeout::read().unwrap()).unwrap(),
        FinTimeout(60)
    );
}

#[test]
fn says_what_the_kernel_refused() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipping says_what_the_kernel_refused: it needs root");
        return;
    }
    let backwards = range(50000, 40000);
    let refused = Netns::anonymous().unwrap().run_in(|| backwards.write());
    let error = refused.unwrap().unwrap_err();
    assert!(matches!(error, SysctlError::Write { .. }), "{error}");
    assert!(error.to_string().contains("does not accept"), "{error}");
}
