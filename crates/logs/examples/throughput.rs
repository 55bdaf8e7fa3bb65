//! Measures how fast a log is written and read: `throughput [json-file|local] [lines]`.

#![allow(clippy::print_stdout, reason = "a measuring program prints")]

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::time::Instant;

use wharf_logs::{
    Format, LogReader, LogWriter, Progress, Query, Stream, Subject, options, timestamp,
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let driver = arguments.next().unwrap_or_else(|| "json-file".to_owned());
    let lines: usize = arguments
        .next()
        .map_or(Ok(1_000_000), |lines| lines.parse())?;
    let dir = std::env::temp_dir().join(format!("wharf-log-throughput-{}", std::process::id()));
    let result = measure(&driver, lines, &dir);
    std::fs::remove_dir_all(&dir)?;
    result
}

fn measure(driver: &str, lines: usize, dir: &Path) -> Result<(), Box<dyn Error>> {
    let mut settings = BTreeMap::new();
    settings.insert("max-size".to_owned(), "1g".to_owned());
    let target = options::resolve(
        driver,
        &settings,
        &Subject {
            id: "x",
            ..Subject::default()
        },
        dir,
    )?;
    let line = format!("{}\n", "x".repeat(99));
    let output = line.repeat(lines);

    let begin = Instant::now();
    let mut writer = LogWriter::open(&target)?;
    for read in output.as_bytes().chunks(64 * 1024) {
        writer.write(Stream::Stdout, read, timestamp::now_ns())?;
    }
    writer.finish(timestamp::now_ns())?;
    println!("written: {lines} lines in {:?}", begin.elapsed());

    for (what, format) in [
        ("plain", Format::default()),
        (
            "framed",
            Format {
                multiplexed: true,
                ..Format::default()
            },
        ),
        (
            "framed, with times",
            Format {
                multiplexed: true,
                timestamps: true,
                details: false,
            },
        ),
    ] {
        let begin = Instant::now();
        let mut reader = LogReader::open(&target, Query::default())?;
        let (mut out, mut total) = (Vec::new(), 0);
        loop {
            let progress = reader.render_batch(format, &mut out)?;
            total += out.len();
            out.clear();
            if progress == Progress::Finished {
                break;
            }
        }
        println!("read {what}: {total} bytes in {:?}", begin.elapsed());
    }
    let begin = Instant::now();
    let mut reader = LogReader::open(
        &target,
        Query {
            tail: Some(10),
            ..Query::default()
        },
    )?;
    let mut count = 0;
    while reader.next_batch(|_| count += 1)? != Progress::Finished {}
    println!("last {count}: {:?}", begin.elapsed());
    Ok(())
}
