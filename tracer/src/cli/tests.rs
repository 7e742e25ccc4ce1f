/*! What is accepted, and the sentence for what is not. */

use std::time::Duration;

use clap::{CommandFactory as _, Parser as _};

use super::values::{BadValue, Bytes, DestinationFilter, Level, duration};
use super::{Cli, Format, Verb, WatchArgs};

fn watch(args: &[&str]) -> Result<Box<WatchArgs>, clap::Error> {
    let args = ["tracer", "watch"].iter().chain(args);
    match Cli::try_parse_from(args)?.verb {
        Verb::Watch(watch) => Ok(watch),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_definition_holds() {
    Cli::command().debug_assert();
}

#[test]
fn filters_are_repeatable() {
    let args = watch(&[
        "-o",
        "json",
        "--pid",
        "1",
        "--pid",
        "2",
        "--dst",
        "10.0.0.0/8",
        "--dst",
        "[::1]:80",
        "--netns",
        "pid:1",
        "--netns",
        "/run/netns/a",
        "--duration",
        "30s",
    ])
    .unwrap();
    assert_eq!(args.output, Format::Json);
    assert_eq!(args.filters.pid, [1, 2]);
    assert_eq!(args.filters.dst.len(), 2);
    assert_eq!(args.filters.netns.len(), 2);
    assert_eq!(args.duration, Some(Duration::from_secs(30)));
    assert_eq!(args.tuning.ring_size, Bytes(8 << 20));
}

#[test]
fn a_bad_value_is_a_usage_error_that_names_flag_and_example() {
    for (args, flag, example) in [
        (["--dst", "10.0.0/8"], "--dst", "10.0.0.2:6432"),
        (["--dst", "10.0.0.0/33"], "--dst", "10.0.0.0/8"),
        (["--duration", "30"], "--duration", "30s"),
        (["--ring-size", "3M"], "--ring-size", "8M"),
        (["--netns", "nonsense"], "--netns", "4026531840"),
        (["--pid", "0"], "--pid", "1.."),
    ] {
        let error = watch(&args).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{args:?}");
        let text = error.to_string();
        assert!(text.contains(flag) && text.contains(example), "{text}");
    }
    for fine in ["--help", "--version"] {
        assert_eq!(watch(&[fine]).unwrap_err().exit_code(), 0);
    }
}

#[test]
fn destinations() {
    let parsed = |text: &str| {
        text.parse::<DestinationFilter>()
            .map(|filter| (filter.network.to_string(), filter.port))
    };
    for (text, network, port) in [
        ("10.1.2.3/8", "10.0.0.0/8", None),
        ("10.0.0.2", "10.0.0.2/32", None),
        ("10.0.0.2:6432", "10.0.0.2/32", Some(6432)),
        ("10.0.0.0/8:6432", "10.0.0.0/8", Some(6432)),
        ("0.0.0.0/0:443", "0.0.0.0/0", Some(443)),
        ("fd00::/8", "fd00::/8", None),
        ("::1", "::1/128", None),
        ("[fd00::/8]:6432", "fd00::/8", Some(6432)),
        ("[fd00::1]", "fd00::1/128", None),
    ] {
        assert_eq!(parsed(text), Ok((network.to_owned(), port)), "{text}");
    }
    for text in [
        "",
        ":",
        ":80",
        "10.0.0.2:",
        "10.0.0.2:0",
        "10.0.0.2:65536",
        "10.0.0.2:+80",
        "10.0.0.2:http",
        "[fd00::1]80",
        "[fd00::1",
        "fd00::/129",
        "10.0.0/8",
        "host",
        "[10.0.0.1",
    ] {
        assert_eq!(parsed(text), Err(BadValue::Destination), "{text}");
    }
}

#[test]
fn spans_and_sizes() {
    for (text, ms) in [
        ("500ms", 500),
        ("30s", 30_000),
        ("5m", 300_000),
        ("1h", 3_600_000),
    ] {
        assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
    }
    for text in ["", "30", "-5s", "0s", "s", "5 parsecs"] {
        assert_eq!(duration(text), Err(BadValue::Duration), "{text}");
    }
    for (text, bytes) in [
        ("65536", 1 << 16),
        ("512K", 1 << 19),
        ("8m", 1 << 23),
        ("1G", 1 << 30),
    ] {
        assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
    }
    for text in [
        "",
        "K",
        "3M",
        "32K",
        "2G",
        "8G",
        "99999999999",
        "-8M",
        "8MB",
        "\u{e9}",
    ] {
        assert_eq!(text.parse::<Bytes>(), Err(BadValue::Bytes), "{text}");
    }
}

#[test]
fn a_command_keeps_its_own_options() {
    for args in [
        &[
            "run",
            "--fail-on",
            "open>1",
            "--",
            "sh",
            "-c",
            "exit 3",
            "-o",
        ][..],
        &["run", "--fail-on", "open>1", "sh", "-c", "exit 3", "-o"],
    ] {
        let parsed = Cli::try_parse_from(["tracer"].iter().chain(args)).unwrap();
        let Verb::Run(run) = parsed.verb else {
            panic!("{parsed:?}");
        };
        assert_eq!(run.command, ["sh", "-c", "exit 3", "-o"]);
        assert_eq!(run.output, Format::Text);
        assert!(run.fail_on.is_some());
    }
    for (args, words) in [
        (&["run"][..], "CMD"),
        (&["run", "--"], "CMD"),
        (
            &["run", "--fail-on", "opne>1", "--", "true"],
            "`opne` is no metric",
        ),
    ] {
        let error = Cli::try_parse_from(["tracer"].iter().chain(args)).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{args:?}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[test]
fn a_level_is_a_part_or_a_number() {
    for (text, capacity, most) in [
        ("10%", Some(28_232), Some(2_823)),
        ("2.5%", Some(1_000), Some(25)),
        ("100%", Some(7), Some(7)),
        ("0%", Some(1_000), Some(0)),
        ("10%", None, None),
        ("500", None, Some(500)),
        ("0", Some(1_000), Some(0)),
        ("65535", None, Some(65_535)),
    ] {
        let level: Level = text.parse().unwrap();
        assert_eq!(level.of(capacity), most, "{text}");
    }
    for text in [
        "", "%", "101%", "-1", "-1%", "+1", "1e2", "inf", "nan%", "65536", "1.5", "5 %", "10%%",
        "1.2.3%",
    ] {
        assert_eq!(text.parse::<Level>(), Err(BadValue::Level), "{text}");
    }
    for text in ["10%", "2.5%", "33.3%", "1 port", "40 ports"] {
        let level: Level = text.split(' ').next().unwrap().parse().unwrap();
        assert_eq!(level.to_string(), text);
    }
}
