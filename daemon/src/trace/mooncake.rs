//! The Mooncake trace format: one JSON object a line.

use super::TraceRequest;
use crate::exit::{Exit, Failure, Outcome};
use serde::Deserialize;
use std::io::{BufRead, Read};
use std::path::Path;

/// Longest line, in bytes.
pub const LINE_BYTES_MAX: u64 = 4 << 20;
/// Most blocks of one request: what one look-up may ask.
pub const BLOCKS_MAX: usize = bettong_wire::limits::LOOKUP_HASHES_MAX;
/// Most requests of one trace.
pub const REQUESTS_MAX: usize = 1_000_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    timestamp: u64,
    input_length: u32,
    #[expect(dead_code, reason = "part of the format, checked to be a number; a replay generates no output")]
    output_length: u32,
    hash_ids: Vec<u64>,
}

/// Reads a trace file. What is wrong is said with file and line.
pub fn read(path: &Path) -> Outcome<Vec<TraceRequest>> {
    let file = std::fs::File::open(path)
        .map_err(|error| Failure::new(Exit::Usage, format!("trace {}: {error}", path.display())))?;
    parse(std::io::BufReader::with_capacity(1 << 20, file))
        .map_err(|(line, message)| Failure::new(Exit::Usage, format!("trace {}:{line}: {message}", path.display())))
}

/// What is wrong with a line, and at which of its columns: the parser knows no other lines than this one.
fn said(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let reason = text.rsplit_once(" at line ").map_or(text.as_str(), |(reason, _)| reason);
    format!("{reason} (column {})", error.column())
}

/// Parses a trace; an error is a line number from 1 and a message.
pub fn parse(mut reader: impl BufRead) -> Result<Vec<TraceRequest>, (usize, String)> {
    let mut requests: Vec<TraceRequest> = Vec::new();
    let mut text = Vec::new();
    for number in 1.. {
        let wrong = |message: String| (number, message);
        text.clear();
        let read = reader.by_ref().take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut text);
        let read = read.map_err(|error| wrong(error.to_string()))?;
        if read == 0 {
            break;
        }
        if read as u64 > LINE_BYTES_MAX {
            return Err(wrong(format!("the line is over the limit of {LINE_BYTES_MAX} bytes")));
        }
        if text.trim_ascii().is_empty() {
            continue;
        }
        if requests.len() == REQUESTS_MAX {
            return Err(wrong(format!("the trace is over the limit of {REQUESTS_MAX} requests")));
        }
        let line: Line = serde_json::from_slice(&text).map_err(|error| wrong(said(&error)))?;
        if line.hash_ids.len() > BLOCKS_MAX {
            return Err(wrong(format!("{} blocks are over the limit of {BLOCKS_MAX}", line.hash_ids.len())));
        }
        if let Some(last) = requests.last().filter(|last| line.timestamp < last.timestamp_ms) {
            return Err(wrong(format!(
                "timestamp {} is before {} of the line above",
                line.timestamp, last.timestamp_ms
            )));
        }
        requests.push(TraceRequest {
            timestamp_ms: line.timestamp,
            input_tokens: line.input_length,
            ids: line.hash_ids,
        });
    }
    if requests.is_empty() {
        return Err((1, "the trace holds no request".to_owned()));
    }
    Ok(requests)
}

#[cfg(test)]
mod tests {
    use super::super::{Ideal, ideal};
    use super::*;

    const GOOD: &str = r#"{"timestamp": 5, "input_length": 900, "output_length": 1, "hash_ids": [0, 1]}"#;

    #[test]
    fn a_good_line_is_read() {
        let requests = parse(format!("{GOOD}\n\n{GOOD}").as_bytes()).unwrap();
        assert_eq!(requests.len(), 2);
        assert_eq!(requests[1], TraceRequest { timestamp_ms: 5, input_tokens: 900, ids: vec![0, 1] });
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let long = format!("{GOOD}\n{}\n", " ".repeat(LINE_BYTES_MAX as usize + 1));
        let many = GOOD.replace("[0, 1]", &format!("{:?}", vec![1; BLOCKS_MAX + 1]));
        for (text, line, word) in [
            (format!("{GOOD}\n{{}}"), 2, "missing field"),
            (format!("{GOOD}\nnonsense"), 2, "expected ident (column 2)"),
            (GOOD.replace("[0, 1]", "[-1]"), 1, "-1"),
            (GOOD.replace("[0, 1]", "[18446744073709551616]"), 1, "invalid"),
            (GOOD.replace("\"hash_ids\"", "\"hashes\""), 1, "unknown field"),
            (GOOD.replace("900", "4294967296"), 1, "4294967296"),
            (format!("{GOOD}\n{}", GOOD.replace("\"timestamp\": 5", "\"timestamp\": 4")), 2, "before 5"),
            (long, 2, "over the limit of 4194304 bytes"),
            (many, 1, "over the limit of 65536"),
            (String::new(), 1, "no request"),
            ("\u{0}".to_owned(), 1, "expected"),
        ] {
            let (at, message) = parse(text.as_bytes()).unwrap_err();
            assert_eq!(at, line, "{message}");
            assert!(message.contains(word), "{message} has no {word}");
        }
        let no_utf8 = parse(&b"{\"timestamp\": 1, \"\xff\": 2}"[..]).unwrap_err();
        assert_eq!(no_utf8.0, 1);
    }

    #[test]
    #[ignore = "MOONCAKE_TRACE names conversation_trace.jsonl, which is not in the tree"]
    fn the_production_trace_has_its_known_numbers() {
        let path = std::env::var_os("MOONCAKE_TRACE").expect("MOONCAKE_TRACE names conversation_trace.jsonl");
        let requests = read(Path::new(&path)).unwrap();
        assert_eq!(requests.len(), 12_031);
        assert_eq!(ideal(&requests), Ideal { blocks: 288_500, hits: 105_710, distinct: 182_790 });
    }
}
