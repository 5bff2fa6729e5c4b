//! `encrypt --ndjson` and `decrypt --ndjson`: each line is answered, in order, in bounded memory.

use std::{
    io::{BufRead, BufReader, Read, Write},
    thread,
};

use serde_json::{Value, json};

use crate::command_line::Desk;

const UUID: &str = "0198c7a0-0000-7000-8000-00000000000a";
const LINES: usize = 20_000;
/// Of values of 2,000 bytes: the lines come to far more than this.
const MOST_MEMORY_KIB: u64 = 30 * 1024;

fn line(row: usize, value: &str) -> String {
    let line = json!({ "column": "clinic.patients.ssn", "bind": [row], "value": value });
    format!("{line}\n")
}

fn answers(text: &str) -> Vec<Value> {
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn what_is_encrypted_line_by_line_decrypts_line_by_line() {
    let desk = Desk::initialised();
    let lines = [
        json!({ "column": "clinic.patients.ssn", "bind": [1], "value": "123-45-6789" }),
        json!({ "column": "clinic.patients.notes", "bind": ["uuid-1"], "value": "zażółć \"x\"\n" }),
        json!({ "column": "clinic.patients.notes", "bind": [{"uuid": UUID}], "value_base64": "AP8=" }),
        json!({ "column": "clinic.patients.ssn", "bind": [3], "value": "" }),
    ];
    let input: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let sealed = desk.rekey(&["encrypt", "--ndjson"], input.as_bytes());
    assert_eq!(sealed.code, 0, "{}", sealed.stderr);
    let opened = desk.rekey(&["decrypt", "--ndjson"], sealed.stdout.as_bytes());
    assert_eq!(opened.code, 0, "{}", opened.stderr);
    assert_eq!(answers(&opened.stdout), lines);
}

#[test]
fn a_text_that_looks_like_another_type_is_bound_as_the_text_it_is() {
    let desk = Desk::initialised();
    let column = ["--column", "clinic.patients.notes"];
    for text in ["int:42", "42", "hex:00", "text:x"] {
        let line = line(1, "123-45-6789").replace("[1]", &format!("[\"{text}\"]"));
        let line = line.replace("ssn", "notes");
        let sealed = desk.rekey(&["encrypt", "--ndjson"], line.as_bytes());
        assert_eq!(sealed.code, 0, "{}", sealed.stderr);
        let sealed = answers(&sealed.stdout).remove(0);
        let sealed = sealed["value"].as_str().unwrap();
        let bind = format!("text:{text}");
        let decrypt = ["decrypt", column[0], column[1], "--bind", &bind];
        let opened = desk.rekey(&decrypt, sealed.as_bytes());
        assert_eq!(opened.stdout, "123-45-6789", "{text}: {}", opened.stderr);
    }
}

#[test]
fn a_line_that_fails_is_told_with_its_number_and_without_its_value_and_the_rest_goes_on() {
    let desk = Desk::initialised();
    let good = line(1, "123-45-6789");
    let bad = [
        "not JSON 123-45-6789\n".to_owned(),
        line(2, "123-45-6789").replace("ssn", "ghost"),
        line(3, "123-45-6789").replace("[3]", "[]"),
        line(4, "123-45-6789").replace("[4]", "[1.5]"),
    ];
    let input = format!("{good}{}{good}", bad.concat());
    let sealed = desk.rekey(&["encrypt", "--ndjson"], input.as_bytes());
    assert_eq!(sealed.code, 1, "{}", sealed.stderr);
    assert!(
        sealed.stderr.contains("4 of 6 lines failed"),
        "{}",
        sealed.stderr
    );
    assert!(!sealed.stdout.contains("6789"), "{}", sealed.stdout);
    let answers = answers(&sealed.stdout);
    let failed: Vec<_> = answers
        .iter()
        .map(|answer| answer["line"].as_u64())
        .collect();
    let expected = [None, Some(2), Some(3), Some(4), Some(5), None];
    assert_eq!(failed, expected);

    // In another row's place it does not open, and that line only.
    let moved = sealed.stdout.lines().next().unwrap().replace("[1]", "[9]");
    let input = format!("{moved}\n{}", sealed.stdout.lines().last().unwrap());
    let opened = desk.rekey(&["decrypt", "--ndjson"], input.as_bytes());
    assert_eq!(opened.code, 1);
    let opened = self::answers(&opened.stdout);
    assert_eq!(opened[0]["line"], 1);
    assert_eq!(opened[1]["value"], "123-45-6789");
}

#[test]
fn a_bind_that_is_no_list_and_a_blank_line_get_words_that_help() {
    let desk = Desk::initialised();
    for (line, said) in [
        (line(1, "x").replace("[1]", "1"), "\\\"bind\\\": [42]"),
        (line(1, "x").replace("[1]", "null"), "expected a list"),
        ("\n".to_owned(), "the line is blank"),
        (" \r\n".to_owned(), "the line is blank"),
    ] {
        let told = desk.rekey(&["encrypt", "--ndjson"], line.as_bytes());
        assert_eq!(told.code, 1, "{line}: {}", told.stderr);
        assert!(told.stdout.contains(said), "{line}: {}", told.stdout);
    }
}

#[test]
fn who_waits_for_each_answer_gets_it_and_memory_stays_small() {
    let desk = Desk::initialised();
    let mut child = desk.command(&["encrypt", "--ndjson"]).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut answer = String::new();
    for row in 0..3 {
        input.write_all(line(row, "x").as_bytes()).unwrap();
        answer.clear();
        output.read_line(&mut answer).unwrap();
        assert!(answer.contains(&format!("[{row}]")), "{answer}");
    }
    let peak = peak_memory_kib(child.id());
    let writing = thread::spawn(move || {
        let value = "x".repeat(2_000);
        for row in 0..LINES {
            input.write_all(line(row, &value).as_bytes()).unwrap();
        }
        input
    });
    let answered = output.by_ref().lines().take(LINES).count();
    assert_eq!(answered, LINES);
    let grown = peak_memory_kib(child.id()) - peak;
    assert!(grown < MOST_MEMORY_KIB, "grown by {grown} KiB");
    drop(writing.join().unwrap());
    assert!(child.wait().unwrap().success());
}

/// The most that a process ever had in memory.
fn peak_memory_kib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.unwrap().trim().trim_end_matches(" kB");
    kib.parse().unwrap()
}
