/*! The table, to the letter. */

use std::sync::Arc;

use unicode_width::UnicodeWidthStr as _;

use super::write;
use crate::model::sample::task;
use crate::model::{Forecast, Pool, TcpState};
use crate::view::Page;
use crate::view::escape::is_hazardous;
use crate::view::sample::{NOW_NS, before, dry_pool, holder, id, states};

fn pools() -> Vec<Pool> {
    let open = [(TcpState::Established, 21_000), (TcpState::CloseWait, 3)];
    let mut hostile = holder(31_337, b"\x1b[2J\xffx", &open);
    Arc::make_mut(&mut hostile.process).comm = task(b"\x1b]0;x\x07\xff\n");
    let six = Pool {
        id: id(
            "fd00:10:244:1::17",
            "fd00:10:96:aaaa:bbbb:cccc:dddd:eeee",
            5672,
        ),
        states: states(&open),
        holders: vec![hostile],
        forecast: Some(Forecast {
            made_ns: NOW_NS,
            dry_in_s: Some(7_500.0),
            settles_at: None,
        }),
        ..dry_pool()
    };
    let mut six = six;
    if let Some(capacity) = &mut six.capacity {
        capacity.range = (32_768, 60_999);
        capacity.reserved = 0;
        capacity.blocked = 0;
    }
    let mut unknown = Pool {
        capacity: None,
        states: states(&[(TcpState::TimeWait, 5)]),
        holders: vec![before(&[(TcpState::TimeWait, 5)])],
        forecast: None,
        ..dry_pool()
    };
    unknown.id.netns += 1;
    vec![dry_pool(), six, unknown]
}

fn table(pools: &[Pool], rows: usize, width: Option<usize>) -> String {
    let mut out = Vec::new();
    let page = Page {
        width,
        colour: false,
    };
    let name = |inode| (inode == 4_026_532_281).then(|| "w\u{1b}eb".to_owned());
    write(pools, name, rows, NOW_NS, &page, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn at_80_columns_the_states_are_below() {
    assert_eq!(
        table(&pools(), 10, Some(80)),
        concat!(
            "         USED    %  TOWARDS              TOP HOLDER              RATE     DRY IN\n",
            "  1,000/1,000  100  10.0.0.2:6432        940 web[4242]        1,240/s        dry\n",
            "    from 10.0.0.1, TIME_WAIT 960, ESTABLISHED 40, in w\\u{1b}eb\n",
            "21,003/28,232   74  [fd00:10:96:…]:5672  21,003 \\u{1…[31337]  1,240/s  2 h 5 min\n",
            "    from fd00:10:244:1::17, ESTABLISHED 21,000, CLOSE_WAIT 3, in w\\u{1b}eb\n",
            "          5/?    ?  10.0.0.2:6432        5 before tracing     1,240/s          -\n",
            "    from 10.0.0.1, TIME_WAIT 5, in netns 4026532282\n",
        )
    );
}

#[test]
fn at_160_columns_they_have_a_column() {
    assert_eq!(
        table(&pools()[..2], 10, Some(160)),
        concat!(
            "         USED    %  POOL                                            TOP HOLDER                                 RATE     DRY IN  STATES\n",
            "  1,000/1,000  100  10.0.0.1 → 10.0.0.2:6432                        940 web[4242]                           1,240/s        dry  TIME_WAIT 960, ESTABLISHED 40\n",
            "21,003/28,232   74  fd00:10:244:1::17 → [fd00:10:96:aaaa:bb…]:5672  21,003 \\u{1b}]0;x\\u{7}\\xff\\u{a}[31337]  1,240/s  2 h 5 min  ESTABLISHED 21,000, CLOSE_WAIT 3\n",
        )
    );
}

#[test]
fn every_line_fits_and_harms_nothing() {
    for width in [60, 80, 120, 139, 140, 160] {
        for line in table(&pools(), 10, Some(width)).lines() {
            assert!(line.width() <= width, "{width}: {line}");
            assert!(!line.contains(is_hazardous), "{line:?}");
        }
    }
}

#[test]
fn a_file_gets_whole_words() {
    let text = table(&pools(), 10, None);
    assert!(
        text.contains("[fd00:10:96:aaaa:bbbb:cccc:dddd:eeee]:5672"),
        "{text}"
    );
    assert!(text.contains("ESTABLISHED 21,000, CLOSE_WAIT 3"), "{text}");
}

#[test]
fn what_is_cut_is_counted() {
    let text = table(&pools(), 1, Some(80));
    assert!(text.ends_with("and 2 more pools\n"), "{text}");
    // One namespace is left, which needs no name.
    assert!(!text.contains("in w"), "{text}");
    assert_eq!(
        table(&[], 1, Some(80)),
        "no pool has a source port in use\n"
    );
}
