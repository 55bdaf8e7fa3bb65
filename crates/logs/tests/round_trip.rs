//! What a container wrote comes back from its log, through rotation, compression, restarts and
//! crashes.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test stops at the first surprise and says why"
)]

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;

use proptest::prelude::*;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use wharf_logs::{
    Driver, Format, LogReader, LogTarget, LogWriter, Progress, Query, Stream, TEXT_MAX,
};

fn target(driver: Driver, dir: &Path) -> LogTarget {
    LogTarget {
        driver,
        path: dir.join("sub/container.log"),
        max_size: None,
        max_files: 1,
        compress: false,
        attrs: BTreeMap::new(),
    }
}

fn read(target: &LogTarget, query: Query) -> Vec<(Stream, i64, String)> {
    let mut reader = LogReader::open(target, query).unwrap();
    let mut entries = Vec::new();
    while reader
        .next_batch(|e| {
            entries.push((
                e.stream,
                e.time_ns(),
                String::from_utf8_lossy(&e.text()).into_owned(),
            ))
        })
        .unwrap()
        != Progress::Finished
    {}
    entries
}

fn text(target: &LogTarget, stream: Stream) -> String {
    let query = Query {
        stdout: stream == Stream::Stdout,
        stderr: stream == Stream::Stderr,
        ..Query::default()
    };
    read(target, query)
        .into_iter()
        .map(|(_, _, text)| text)
        .collect()
}

fn lines(target: &LogTarget, query: Query) -> Vec<String> {
    read(target, query)
        .into_iter()
        .map(|(_, _, text)| text.trim_end().to_owned())
        .collect()
}

#[test]
fn the_json_file_is_dockers() {
    let dir = tempfile::tempdir().unwrap();
    let mut target = target(Driver::JsonFile, dir.path());
    target.attrs.insert("tag".into(), "x".into());
    let mut writer = LogWriter::open(&target).unwrap();
    writer
        .write(Stream::Stdout, b"one\ntw", 1_795_341_600_120_000_000)
        .unwrap();
    writer
        .write(Stream::Stderr, b"<err>\n", 1_795_341_601_000_000_000)
        .unwrap();
    writer
        .write(Stream::Stdout, b"o\nno newline", 1_795_341_602_000_000_001)
        .unwrap();
    writer.finish(1_795_341_603_000_000_000).unwrap();
    assert_eq!(
        fs::read_to_string(&target.path).unwrap(),
        r#"{"log":"one\n","stream":"stdout","attrs":{"tag":"x"},"time":"2026-11-22T10:00:00.12Z"}
{"log":"\u003cerr\u003e\n","stream":"stderr","attrs":{"tag":"x"},"time":"2026-11-22T10:00:01Z"}
{"log":"two\n","stream":"stdout","attrs":{"tag":"x"},"time":"2026-11-22T10:00:02.000000001Z"}
{"log":"no newline","stream":"stdout","attrs":{"tag":"x"},"time":"2026-11-22T10:00:03Z"}
"#
    );
}

#[test]
fn long_lines_are_split_and_joined_on_reading() {
    for driver in [Driver::JsonFile, Driver::Local] {
        let dir = tempfile::tempdir().unwrap();
        let target = target(driver, dir.path());
        let mut writer = LogWriter::open(&target).unwrap();
        let long = "é".repeat(TEXT_MAX) + "\n";
        let exact = "x".repeat(TEXT_MAX) + "\n";
        for piece in (long.clone() + &exact + "end\n").as_bytes().chunks(1000) {
            writer.write(Stream::Stdout, piece, 5).unwrap();
        }
        writer.finish(6).unwrap();
        let entries = read(&target, Query::default());
        assert!(
            entries
                .iter()
                .all(|(_, _, text)| text.len() <= TEXT_MAX + 1)
        );
        let joined: String = entries.into_iter().map(|(_, _, text)| text).collect();
        assert!(joined == long + &exact + "end\n");
    }
}

#[test]
fn tail_since_and_until_choose() {
    for driver in [Driver::JsonFile, Driver::Local] {
        let dir = tempfile::tempdir().unwrap();
        let mut target = target(driver, dir.path());
        (target.max_size, target.max_files, target.compress) = (Some(2000), 100, true);
        let mut writer = LogWriter::open(&target).unwrap();
        for n in 0..500_i64 {
            writer
                .write(
                    Stream::Stdout,
                    format!("line {n}\n").as_bytes(),
                    n * 1_000_000_000,
                )
                .unwrap();
            writer.compress_some();
        }
        writer.finish(0).unwrap();
        let files: Vec<_> = fs::read_dir(target.path.parent().unwrap())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert!(
            files
                .iter()
                .filter(|name| name.to_string_lossy().ends_with(".gz"))
                .count()
                > 3,
            "{files:?}"
        );
        let range =
            |from: i64, to: i64| (from..to).map(|n| format!("line {n}")).collect::<Vec<_>>();
        assert_eq!(lines(&target, Query::default()), range(0, 500));
        for tail in [0, 1, 17, 200, 499, 500, 501] {
            let query = Query {
                tail: Some(tail),
                ..Query::default()
            };
            assert_eq!(
                lines(&target, query),
                range(500 - tail.min(500) as i64, 500),
                "{driver:?} tail {tail}"
            );
        }
        let query = Query {
            since_ns: Some(100_000_000_000),
            until_ns: Some(110_000_000_000),
            ..Query::default()
        };
        assert_eq!(lines(&target, query), range(100, 111));
        let query = Query {
            stdout: false,
            ..Query::default()
        };
        assert!(lines(&target, query).is_empty());
    }
}

#[test]
fn a_follower_misses_nothing_through_rotations() {
    for (driver, compress, max_files) in [
        (Driver::JsonFile, false, 3),
        (Driver::JsonFile, true, 50),
        (Driver::Local, true, 50),
        (Driver::Local, false, 1),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut target = target(driver, dir.path());
        (target.max_size, target.max_files, target.compress) = (Some(1500), max_files, compress);
        let mut reader = LogReader::open(
            &target,
            Query {
                follow: true,
                ..Query::default()
            },
        )
        .unwrap();
        let watch = reader.watch().unwrap();
        let mut seen = Vec::new();
        let catch_up = |reader: &mut LogReader, seen: &mut Vec<String>| {
            loop {
                let progress = reader
                    .next_batch(|e| seen.push(String::from_utf8(e.text()).unwrap()))
                    .unwrap();
                if progress != Progress::More {
                    return progress;
                }
            }
        };
        assert_eq!(catch_up(&mut reader, &mut seen), Progress::CaughtUp);
        let mut writer = LogWriter::open(&target).unwrap();
        let mut expected = Vec::new();
        for n in 0..400 {
            let line = format!("line {n}\n");
            writer.write(Stream::Stdout, line.as_bytes(), n).unwrap();
            expected.push(line);
            writer.compress_some();
            // Several rotations can happen between two looks where enough files are kept.
            if n % if max_files == 50 { 97 } else { 7 } == 0 {
                assert!(watch.drain().unwrap());
                assert_eq!(catch_up(&mut reader, &mut seen), Progress::CaughtUp);
                assert_eq!(seen, expected);
            }
        }
        writer.finish(0).unwrap();
        reader.container_ended();
        assert_eq!(catch_up(&mut reader, &mut seen), Progress::Finished);
        assert_eq!(seen, expected);
    }
}

#[test]
fn a_follower_keeps_up_with_a_writer_that_rotates_meanwhile() {
    for (driver, compress) in [
        (Driver::JsonFile, true),
        (Driver::JsonFile, false),
        (Driver::Local, true),
    ] {
        const LINES: i64 = 20_000;
        let dir = tempfile::tempdir().unwrap();
        let mut target = target(driver, dir.path());
        (target.max_size, target.max_files, target.compress) = (Some(20_000), 500, compress);
        let mut reader = LogReader::open(
            &target,
            Query {
                follow: true,
                ..Query::default()
            },
        )
        .unwrap();
        let watch = reader.watch().unwrap();
        let writing = std::thread::spawn({
            let target = target.clone();
            move || {
                let mut writer = LogWriter::open(&target).unwrap();
                for n in 0..LINES {
                    writer
                        .write(Stream::Stdout, format!("{n}\n").as_bytes(), n)
                        .unwrap();
                    writer.compress_some();
                }
                writer.finish(LINES).unwrap();
            }
        });
        let mut expected = 0;
        loop {
            let ended = writing.is_finished();
            if ended {
                reader.container_ended();
            }
            watch.drain().unwrap();
            loop {
                let progress = reader
                    .next_batch(|entry| {
                        assert_eq!(
                            String::from_utf8(entry.text()).unwrap(),
                            format!("{expected}\n")
                        );
                        expected += 1;
                    })
                    .unwrap();
                if progress != Progress::More {
                    assert!(ended || progress == Progress::CaughtUp);
                    break;
                }
            }
            if ended {
                break;
            }
            let mut fds = [PollFd::new(&watch, PollFlags::IN)];
            poll(
                &mut fds,
                Some(&Timespec {
                    tv_sec: 0,
                    tv_nsec: 1_000_000,
                }),
            )
            .unwrap();
        }
        assert_eq!(expected, LINES);
        writing.join().unwrap();
    }
}

#[test]
fn a_torn_end_is_repaired_and_skipped() {
    for driver in [Driver::JsonFile, Driver::Local] {
        for torn in 1..60 {
            let dir = tempfile::tempdir().unwrap();
            let target = target(driver, dir.path());
            let mut writer = LogWriter::open(&target).unwrap();
            writer
                .write(
                    Stream::Stdout,
                    b"whole\nsecond line that is torn by a power cut\n",
                    1,
                )
                .unwrap();
            drop(writer);
            let length = fs::metadata(&target.path).unwrap().len();
            OpenOptions::new()
                .write(true)
                .open(&target.path)
                .unwrap()
                .set_len(length - torn)
                .unwrap();
            let before = lines(&target, Query::default());
            assert!(
                before == ["whole"]
                    || (torn == 1 && driver == Driver::JsonFile && before.len() == 2),
                "{before:?}"
            );
            let mut writer = LogWriter::open(&target).unwrap();
            writer.write(Stream::Stdout, b"after\n", 2).unwrap();
            writer.finish(2).unwrap();
            let after = lines(&target, Query::default());
            assert_eq!(
                (
                    after.first().unwrap().as_str(),
                    after.last().unwrap().as_str()
                ),
                ("whole", "after")
            );
            assert_eq!(
                lines(
                    &target,
                    Query {
                        tail: Some(1),
                        ..Query::default()
                    }
                ),
                ["after"]
            );
        }
    }
}

#[test]
fn rotated_files_are_whole_gzip_files_and_bounded_in_number() {
    let dir = tempfile::tempdir().unwrap();
    let mut target = target(Driver::JsonFile, dir.path());
    (target.max_size, target.max_files, target.compress) = (Some(1000), 3, true);
    let mut writer = LogWriter::open(&target).unwrap();
    for n in 0..200 {
        writer
            .write(Stream::Stdout, format!("{n}\n").as_bytes(), n)
            .unwrap();
    }
    // A new writer takes up what the last one left to compress.
    drop(writer);
    let mut writer = LogWriter::open(&target).unwrap();
    while writer.wants_to_compress() {
        writer.compress_some();
    }
    let mut names: Vec<_> = fs::read_dir(target.path.parent().unwrap())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(
        names,
        ["container.log", "container.log.1.gz", "container.log.2.gz"]
    );
    let mut plain = String::new();
    let file = fs::File::open(target.path.with_file_name("container.log.2.gz")).unwrap();
    flate2::read::GzDecoder::new(file)
        .read_to_string(&mut plain)
        .unwrap();
    assert!(plain.starts_with("{\"log\":\"") && plain.ends_with("Z\"}\n"));
    let seen = lines(&target, Query::default());
    assert_eq!(seen.last().unwrap(), "199");
    assert!(seen.len() < 60);
}

#[test]
fn hostile_files_are_survived() {
    for driver in [Driver::JsonFile, Driver::Local] {
        for content in [
            &b""[..],
            b"\n\n\n",
            b"\0\0\0\0\0\0\0\0",
            b"\xff\xff\xff\xff",
            b"{\"log\":\"",
            b"{}\n[]\nnull\n{\"log\":\"ok\\n\",\"stream\":\"stdout\",\"time\":\"\"}\n",
        ] {
            let dir = tempfile::tempdir().unwrap();
            let target = target(driver, dir.path());
            fs::create_dir_all(target.path.parent().unwrap()).unwrap();
            fs::write(&target.path, content).unwrap();
            fs::write(target.path.with_extension("log.1.gz"), content).unwrap();
            for tail in [None, Some(0), Some(3)] {
                let seen = lines(
                    &target,
                    Query {
                        tail,
                        ..Query::default()
                    },
                );
                assert!(seen.len() <= 1, "{seen:?}");
            }
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let target = target(Driver::JsonFile, dir.path());
    fs::create_dir_all(target.path.parent().unwrap()).unwrap();
    let mut file = fs::File::create(&target.path).unwrap();
    file.write_all(&vec![b'x'; 9 << 20]).unwrap();
    file.write_all(b"\n{\"log\":\"ok\\n\",\"stream\":\"stdout\",\"time\":\"\"}\n")
        .unwrap();
    assert_eq!(lines(&target, Query::default()), ["ok"]);
}

#[test]
fn a_full_disk_loses_entries_but_nothing_else() {
    for driver in [Driver::JsonFile, Driver::Local] {
        let dir = tempfile::tempdir().unwrap();
        let target = target(driver, dir.path());
        fs::create_dir_all(target.path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink("/dev/full", &target.path).unwrap();
        let mut writer = LogWriter::open(&target).unwrap();
        let error = writer.write(Stream::Stdout, b"lost\nbegun", 1).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
        assert!(writer.dropped_bytes() > 0);
        assert!(writer.write(Stream::Stdout, b" and lost\n", 2).is_err());
        writer.finish(3).unwrap();
    }
}

#[test]
fn stream_frames_hold_the_text() {
    let dir = tempfile::tempdir().unwrap();
    let target = target(Driver::JsonFile, dir.path());
    let mut writer = LogWriter::open(&target).unwrap();
    writer.write(Stream::Stdout, b"a\n", 1).unwrap();
    writer.write(Stream::Stderr, b"bc\n", 1).unwrap();
    let mut reader = LogReader::open(&target, Query::default()).unwrap();
    let mut out = Vec::new();
    let format = Format {
        multiplexed: true,
        ..Format::default()
    };
    while reader.render_batch(format, &mut out).unwrap() != Progress::Finished {}
    assert_eq!(out, b"\x01\0\0\0\0\0\0\x02a\n\x02\0\0\0\0\0\0\x03bc\n");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_output_comes_back(
        pieces in proptest::collection::vec((any::<bool>(), "[a-c\n\"\\\\<é€😀]{0,40}", 0u8..3), 0..60),
        local in any::<bool>(),
        max_size in prop_oneof![Just(None), (300u64..5000).prop_map(Some)],
        compress in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut target = target(if local { Driver::Local } else { Driver::JsonFile }, dir.path());
        (target.max_size, target.max_files, target.compress) = (max_size, 1000, compress && max_size.is_some());
        let (mut out, mut err) = (String::new(), String::new());
        let mut writer = LogWriter::open(&target).unwrap();
        for (index, (stdout, piece, steps)) in pieces.iter().enumerate() {
            let stream = if *stdout { Stream::Stdout } else { Stream::Stderr };
            writer.write(stream, piece.as_bytes(), index as i64).unwrap();
            if *stdout { out.push_str(piece) } else { err.push_str(piece) }
            for _ in 0..*steps {
                writer.compress_some();
            }
        }
        writer.finish(1000).unwrap();
        prop_assert_eq!(text(&target, Stream::Stdout), out);
        prop_assert_eq!(text(&target, Stream::Stderr), err);
    }
}
