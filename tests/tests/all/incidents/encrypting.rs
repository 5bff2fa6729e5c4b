//! An application's process that encrypts what it is told, line by line, under whatever key it is given.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use rekey_domain::KeyId;
use rekey_envelope::{Ciphertext, decode_base64};
use rekey_tests::support::{PATIENCE, until};
use serde_json::{Value, json};

/// `rekey encrypt --ndjson`; dropped, it is killed.
pub struct Encrypting {
    child: Child,
    input: ChildStdin,
    answers: Receiver<Option<KeyId>>,
}

impl Encrypting {
    /// Starts what `rekey` is to be started as.
    pub fn start(mut rekey: Command) -> Self {
        rekey.args(["encrypt", "--ndjson"]);
        rekey.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = rekey.spawn().unwrap();
        let (tell, answers) = channel();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = tell.send(key_of(&line));
            }
        });
        Self {
            input: child.stdin.take().unwrap(),
            answers,
            child,
        }
    }

    /// Gives it a value, whether it runs now or not.
    pub fn tell(&mut self) {
        let line = json!({ "column": "clinic.patients.ssn", "bind": [1], "value": "123-45-6789" });
        // It may have ended: then it answers nothing.
        let _ = self.input.write_all(format!("{line}\n").as_bytes());
    }

    /// The key that it encrypted the next value under; none: it refused, or ended.
    pub fn answer(&mut self) -> Option<KeyId> {
        match self.answers.recv_timeout(PATIENCE) {
            Err(RecvTimeoutError::Timeout) => panic!("it says nothing"),
            answer => answer.ok().flatten(),
        }
    }

    /// The same; none also if it says nothing for so long.
    pub fn answer_within(&mut self, patience: Duration) -> Option<KeyId> {
        self.answers.recv_timeout(patience).ok().flatten()
    }

    /// Stops it, and waits until it stands still.
    pub async fn stop(&self) {
        self.signal("STOP");
        until("a stopped process", async || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
            stat.unwrap().contains(") T ").then_some(())
        })
        .await;
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        self.signal("CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill")
            .args([&format!("-{signal}"), &pid])
            .status();
        assert!(sent.unwrap().success());
    }
}

impl Drop for Encrypting {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn key_of(answer: &str) -> Option<KeyId> {
    let answer: Value = serde_json::from_str(answer).unwrap();
    let sealed = decode_base64(answer["value"].as_str()?).unwrap();
    Some(Ciphertext::parse(&sealed).unwrap().key_id())
}
