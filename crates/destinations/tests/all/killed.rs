//! A writer of a directory that is killed at any time.

use std::{
    env, fs,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rekey_destinations::{Created, Destination, Directory};

use crate::{directory::place, suite::name};

/// Says to the writer where to write.
const WHERE: &str = "REKEY_TEST_WRITES_UNTIL_KILLED";
const LEN: usize = 300_000;

#[tokio::test]
async fn killed_at_any_time_a_writer_leaves_nothing_half_written_that_counts() {
    let (_above, path) = place();
    let directory = Directory::new(&path);
    directory.create(&name("a/first"), b"1").await.unwrap();
    let (mut left, mut round) = (0, 0);
    // Until some were killed while they wrote, too.
    while round < 20 || left < 3 {
        round += 1;
        let mut writer = writer(&path);
        let there = || fs::read_dir(path.join("a")).unwrap().count();
        let (before, asked) = (there(), Instant::now());
        while there() < before + 2 {
            assert!(
                asked.elapsed() < Duration::from_secs(60),
                "it writes nothing"
            );
            std::thread::sleep(Duration::from_micros(500 + 137 * (round % 20)));
        }
        writer.kill().unwrap();
        writer.wait().unwrap();
        left += fs::read_dir(path.join(".new")).unwrap().count();
    }
    let page = directory.list(&"a".parse().unwrap(), None).await.unwrap();
    assert!(page.names.len() > 40);
    for name in page.names.iter().filter(|of| of.as_str() != "a/first") {
        let bytes = directory.read(name).await.unwrap();
        assert!(bytes == [7; LEN], "{name} is half written");
        assert_eq!(
            directory.create(name, &bytes).await,
            Ok(Created::AlreadyThere)
        );
    }
    assert_eq!(fs::read_dir(path.join(".new")).unwrap().count(), 0);
}

fn writer(path: &std::path::Path) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "killed::writes_until_killed", "--ignored"])
        .env(WHERE, path)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test]
#[ignore = "run by the test above, as a process of its own"]
async fn writes_until_killed() {
    let Some(path) = env::var_os(WHERE) else {
        return;
    };
    let directory = Directory::new(path);
    for n in 0.. {
        let name = name(&format!("a/{}-{n}", std::process::id()));
        directory.create(&name, &[7; LEN]).await.unwrap();
    }
}
