/*! What is found in small sources. */
use super::{Source, read};

/// What the files name: the line, the module and the path of each place.
fn named(files: &[(&str, &str)]) -> Vec<String> {
    let sources = files.iter().map(|(file, text)| Source {
        file: (*file).to_owned(),
        text: (*text).to_owned(),
    });
    let tree = read(&sources.collect::<Vec<_>>()).unwrap();
    let spelled = tree.names.iter().map(|name| {
        let (from, to) = (name.from.join("::"), name.to.join("::"));
        format!("{} {from} -> {to}", name.line)
    });
    spelled.collect()
}

#[test]
fn imports_are_taken_apart() {
    let text = "use std::{fs, io};\nuse crate::{\n  a::{self, B as C},\n  d,\n};\nuse ::crate_of_others::a;
        use crate::e as f;\nuse crate::g::*;\nfn x() { use crate::h; f::y(); a::B::z(); fs::read() }";
    assert_eq!(
        named(&[("room.rs", text)]),
        [
            "3 room -> a",
            "3 room -> a::B",
            "4 room -> d",
            "7 room -> e",
            "8 room -> g",
            "9 room -> h",
            "9 room -> e::y",
            "9 room -> a::B::z",
        ]
    );
}

#[test]
fn paths_are_found_wherever_they_stand() {
    let text = "struct S<T: crate::a::A>(Vec<crate::b::B>, T);
        impl crate::c::C for S<u8> { fn f(&self) -> crate::d::D { <crate::e::E as Other>::f() } }
        #[arg(value_parser = crate::f::parse)]
        #[derive(crate::g::G)]
        pub(in crate::room) static N: usize = crate::h::f::<crate::i::I>();
        fn f(x: u8) { match x { crate::r#j::J => (), _ => {} } }";
    let found = named(&[("room.rs", text)]);
    let found: Vec<_> = found
        .iter()
        .filter_map(|name| name.split(' ').next_back())
        .collect();
    assert_eq!(
        found,
        [
            "a::A", "b::B", "c::C", "d::D", "e::E", "f::parse", "g::G", "h::f", "i::I", "j::J"
        ]
    );
}

#[test]
fn super_leads_to_the_module_above_and_further() {
    let text = "use super::a::A; use super::super::b::B; use self::c::D;
        mod inner { use super::a::A; use super::super::super::d::D; }";
    assert_eq!(
        named(&[("room/part.rs", text), ("room/mod.rs", "use super::e::E;")]),
        [
            "1 room::part -> room::a::A",
            "1 room::part -> b::B",
            "1 room::part -> room::part::c::D",
            "2 room::part::inner -> room::part::a::A",
            "2 room::part::inner -> d::D",
            "1 room -> e::E",
        ]
    );
}

#[test]
fn a_child_is_named_without_self() {
    let files = [
        ("room.rs", "mod part; pub use part::X;"),
        ("room/part.rs", ""),
    ];
    assert_eq!(named(&files), ["1 room -> room::part::X"]);
}

#[test]
fn what_macros_are_given_counts() {
    let text = "use crate::a;\nfn f() {\n  assert!(x == crate::b::f(&[crate::c::C]), \"{}\", a::B::<u8>::new());
        some! { use crate::{d, e::{F, G}}; key: crate::h::H, crate: ::std::fs } crate::i::called!() }
        macro_rules! m { ($x:expr) => { $crate::j::f($x) } }";
    let found = named(&[("room.rs", text)]);
    assert_eq!(
        found,
        [
            "1 room -> a",
            "3 room -> b::f",
            "3 room -> c::C",
            "3 room -> a::B",
            "4 room -> d",
            "4 room -> e::F",
            "4 room -> e::G",
            "4 room -> h::H",
            "4 room -> i::called",
            "5 room -> j::f",
        ]
    );
}

#[test]
fn comments_and_strings_name_nothing() {
    let text = "//! [`crate::a::A`]\n/* use crate::b; /* crate::c::C */ */\n/** [x](crate::d::D) */\n\
        fn f() { g(\"crate::e::E\", r#\"\" crate::f::F \"#, b\"crate::g\"); h!(\"crate::i::I\", '\"', c\"crate::j::J\") }";
    assert_eq!(named(&[("room.rs", text)]), [""; 0]);
}

#[test]
fn what_only_tests_compile_is_left_out() {
    let files = [
        (
            "room.rs",
            "mod part; #[cfg(test)] mod tests; #[cfg(test)] mod sample { use crate::a; }
            #[cfg(test)] use crate::b; impl X { #[cfg(test)] fn f() { crate::c::f() } }
            #[test] fn g() { crate::d::f() } #[cfg(not(test))] use crate::e;",
        ),
        ("room/tests.rs", "mod deep; use crate::f;"),
        ("room/tests/deep.rs", "use crate::g;"),
        (
            "room/part.rs",
            "mod inner { #[cfg(all(test, unix))] pub(super) mod tests; }",
        ),
        ("room/part/inner/tests.rs", "use crate::h;"),
        // Nobody declared this one to be for tests.
        ("room/part/tests.rs", "use crate::i;"),
        ("room/whole.rs", "#![cfg(test)]\nuse crate::j;"),
    ];
    assert_eq!(named(&files), ["3 room -> e", "1 room::part::tests -> i"]);
}

#[test]
fn what_is_not_rust_is_said_with_its_place() {
    let source = Source {
        file: "room.rs".to_owned(),
        text: "fn f() {}\nfn {".to_owned(),
    };
    let error = read(&[source]).err().unwrap().to_string();
    assert!(
        error.starts_with("parsing tracer/src/room.rs:2: "),
        "{error}"
    );
}
