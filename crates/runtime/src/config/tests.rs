//! The example of the design, every contradiction, and hostile files.

use std::{collections::HashMap, num::NonZeroU32, time::Duration};

use rekey_domain::{Algorithm, Bind, Limits, Purpose, Severity, Triggers, Urgent};

use super::{Config, ConfigErrors, KmsConfig, ReceiverConfig, SecretUrl, problems::Problems};

/// The design's example, as far as it is built.
const EXAMPLE: &str = r#"
[store]
url = "sqlite:///var/lib/rekey/store.db"

[kms]
provider = "local"
path = "/var/lib/rekey/master.key"

[[keyring]]
name = "phi"
purpose = "PHI"
rotate = "0 0 1 * *"
grace_period = "7d"
concurrency = 5
retry_attempts = 3
key_lifetime = "90d"

[[source]]
name = "clinic"
url = "sqlite:///var/lib/clinic.db"
backup_retention = "35d"
[[source.table]]
name = "patients"
relation = "main.patients"
on_update = { triggers = "fire", publications = "accept" }
columns = { ssn = { keyring = "phi", bind = "row", id = "clinic.ssn" }, notes = { keyring = "phi", bind = ["uuid"] } }
[source.limits]
rows_per_second = 0
window = ""

[[principal]]
name = "siem"
amqp_user = "siem"
may = ["backup.requested"]

[monitoring]
expiration_warning = "7d"
backup_every = "1d"
drill_every = "12h"
"#;

fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    let environment: HashMap<_, _> = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Config::from_parts(Some(("rekey.toml", text)), environment, Problems::default())
}

/// The example with something changed.
fn with(old: &str, new: &str) -> String {
    assert!(EXAMPLE.contains(old), "{old}");
    EXAMPLE.replacen(old, new, 1)
}

/// Asserts that there is exactly one problem: at this key, and saying this.
#[track_caller]
fn refused(text: &str, key: &str, says: &str) {
    let problems = load(text, &[]).unwrap_err().problems;
    assert_eq!(problems.len(), 1, "{problems:#?}");
    assert_eq!(problems[0].key, key, "{problems:#?}");
    assert!(problems[0].problem.contains(says), "{problems:#?}");
}

#[test]
fn the_example_is_read_whole() {
    let config = load(EXAMPLE, &[]).unwrap();
    let keyring = &config.keyrings[0];
    assert_eq!(
        (keyring.name.as_str(), keyring.purpose),
        ("phi", Purpose::Phi)
    );
    assert_eq!(keyring.policy.rotate.as_deref(), Some("0 0 1 * *"));
    assert_eq!(
        keyring.policy.timing.grace_period,
        Duration::from_secs(7 * 24 * 60 * 60)
    );
    let table = &config.sources[0].tables[0];
    assert_eq!(table.on_update.triggers, Some(Triggers::Fire));
    assert!(table.on_update.publications_accepted);
    assert_eq!(
        (table.name.as_str(), table.relation.as_str()),
        ("patients", "main.patients")
    );
    let [notes, ssn] = &table.columns[..] else {
        panic!("{table:?}")
    };
    assert_eq!(notes.bind, Bind::Columns(vec!["uuid".to_owned()]));
    assert_eq!(
        (&ssn.bind, ssn.column_id.as_deref()),
        (&Bind::Row, Some("clinic.ssn"))
    );
    let silent: Vec<_> = config
        .without_effect
        .iter()
        .map(|problem| problem.key.as_str())
        .collect();
    assert!(silent.contains(&"source[0].backup_retention"), "{silent:?}");
}

#[test]
fn without_a_file_it_is_the_default() {
    let config = Config::from_parts(None, HashMap::new(), Problems::default()).unwrap();
    assert!(config.store.url.is_none());
    assert_eq!(config.kms, KmsConfig::default());
    let phi = &config.keyrings[0];
    assert_eq!((phi.name.as_str(), phi.purpose), ("phi", Purpose::Phi));
    // A file says itself which there are.
    let keyrings = Vec::new();
    assert_eq!(load("", &[]).unwrap(), Config { keyrings, ..config });
}

#[test]
fn a_parameter_of_a_url_that_nobody_reads_is_refused_and_named() {
    let store = |url: &str| load(&format!("[store]\nurl = \"{url}\""), &[]);
    for (url, named) in [
        ("postgres://rekey@db/rekey?sslmod=verify-full", "sslmod"),
        (
            "postgres://rekey@db/rekey?sslmode=require&connect_timeout=3",
            "connect_timeout",
        ),
        ("sqlite:///srv/store.db?mod=rw", "mod"),
        ("postgres://rekey@db/rekey?hunter2", "(not shown)"),
    ] {
        let error = store(url).unwrap_err().to_string();
        assert!(error.contains(&format!("parameter {named};")), "{error}");
        assert!(
            error.contains("mode") && !error.contains("hunter2"),
            "{error}"
        );
    }
    let fragment = store("postgres://rekey@db/rekey#sslmode=verify-full").unwrap_err();
    assert!(fragment.to_string().contains("has a '#'"), "{fragment}");
    let broker = |parameter: &str| {
        let store = "[store]\nurl = \"postgres://rekey@db/rekey\"";
        load(
            &format!("{store}\n[broker]\nurl = \"amqps://mq/rekey?{parameter}\""),
            &[],
        )
    };
    broker("heartbeat=3&cacertfile=/etc/ca.pem").unwrap();
    let error = broker("hartbeat=3").unwrap_err().to_string();
    assert!(
        error.contains("parameter hartbeat;") && error.contains("heartbeat"),
        "{error}"
    );
    for url in [
        "postgres://rekey@db/rekey?sslmode=verify-full&sslrootcert=/etc/ca.pem&application_name=x",
        "postgres://rekey@db/rekey?options=-csearch_path%3Drekey",
        "postgres://rekey@db/rekey?options[search_path]=rekey",
        "sqlite:///srv/store.db?mode=rw",
        "sqlite:///srv/store.db?mode=rwc",
    ] {
        store(url).unwrap();
    }
    let source = |parameter: &str| {
        let url = format!("///var/lib/clinic.db?{parameter}");
        load(&with("///var/lib/clinic.db", &url), &[])
    };
    source("mode=ro").unwrap();
    assert!(source("mode=rwc").is_err() && source("cache=shared").is_err());
    for (parameter, because) in [
        ("immutable=1", "would not be read"),
        ("vfs=unix-none", "has to lock"),
        ("mode=memory", "in memory"),
        ("mode=ro", "has a mode"),
    ] {
        let error = store(&format!("sqlite:///srv/store.db?{parameter}"));
        let error = error.unwrap_err().to_string();
        assert!(error.contains(because), "{error}");
    }
}

#[test]
fn stragglers_are_looked_for_daily_unless_the_file_says_otherwise() {
    let of = |said: &str| {
        let file = format!("[[keyring]]\nname = \"phi\"\npurpose = \"PHI\"\n{said}");
        load(&file, &[]).unwrap().keyrings[0].policy.straggler_look
    };
    let hours = |hours: u64| Some(Duration::from_secs(hours * 60 * 60));
    assert_eq!(of(""), hours(24));
    assert_eq!(of("straggler_look = \"6h\""), hours(6));
    assert_eq!(of("straggler_look = \"off\""), None);
}

#[test]
fn a_process_opens_as_many_connections_to_the_store_as_it_may() {
    let of = |said: &str| load(&format!("[store]\n{said}"), &[]);
    assert_eq!(of("connections = 3").unwrap().store.connections, Some(3));
    assert_eq!(of("").unwrap().store.connections, None);
    for refused in [
        "connections = 2",
        "connections = 101",
        "connections = \"some\"",
    ] {
        let error = of(refused).unwrap_err().to_string();
        assert!(
            error.contains("store.connections") && error.contains("from 3 to 100"),
            "{error}"
        );
    }
}

#[test]
fn a_broker_needs_a_store_that_many_processes_share() {
    let on = |store: &str, broker: &str| {
        with("sqlite:///var/lib/rekey/store.db", store)
            .replace("[kms]", &format!("[broker]\n{broker}\n[kms]"))
    };
    let amqp = "url = \"amqps://rekey:secret@mq/rekey\"\nprefix = \"test.\"";
    let config = load(&on("postgres://rekey:secret@db/rekey", amqp), &[]).unwrap();
    assert!(
        config
            .broker
            .url
            .unwrap()
            .expose_url()
            .starts_with("amqps://")
    );
    assert_eq!(config.broker.prefix, "test.");
    refused(
        &on("sqlite:///var/lib/rekey/store.db", amqp),
        "broker.url",
        "needs a PostgreSQL store",
    );
    let local = load(&on("sqlite:///store.db", "url = \"local\""), &[]).unwrap();
    assert!(local.broker.url.is_none());
    for (wrong, key, expected) in [
        ("url = \"http://u:secret@mq\"", "broker.url", "amqps://"),
        ("url = \"amqp://\"", "broker.url", "amqps://"),
        ("prefix = \"a b\"", "broker.prefix", "letters"),
    ] {
        refused(&on("postgres://db/rekey", wrong), key, expected);
    }
}

#[test]
fn unknown_keys_are_named() {
    refused(
        &with("[store]", "[store]\nuri = 1"),
        "store.uri",
        "expected one of url, url_file",
    );
    refused(
        &with("[store]", "[stores]\n[store]"),
        "stores",
        "no such key",
    );
    refused(
        &with("rotate =", "rotates = 1\nrotate ="),
        "keyring[0].rotates",
        "no such key",
    );
    refused(
        &with("bind = \"row\"", "bind = \"row\", x = 1"),
        "source[0].table[0].columns.ssn.x",
        "no such key",
    );
}

#[test]
fn what_is_not_built_is_refused() {
    refused(
        &with("sqlite:///var/lib/clinic.db", "mysql://u:secret@db/x"),
        "source[0].url",
        "not supported",
    );
    refused(
        &with("\"PHI\"", "\"BACKUP\""),
        "keyring[0].purpose",
        "BACKUP is the purpose of keyring backup alone",
    );
    refused(
        &with("\"fire\"", "\"suppress\""),
        "source[0].table[0].on_update.triggers",
        "expected \"fire\"",
    );
}

#[test]
fn limits_of_a_source_are_read() {
    let limits = |text: &str| load(text, &[]).unwrap().sources[0].limits.clone();
    assert_eq!(limits(EXAMPLE), Limits::default());
    let paced = with(
        "second = 0\nwindow = \"\"",
        "second = 9\nurgent = \"as-usual\"\nwindow = \"22:00-05:00 Europe/Berlin\"",
    );
    let expected = Limits {
        urgent: Urgent::AsUsual,
        rows_per_second: NonZeroU32::new(9),
        window: Some("22:00-05:00 Europe/Berlin".parse().unwrap()),
        ..Limits::default()
    };
    assert_eq!(limits(&paced), expected);
    let postgres = with("sqlite:///var/lib/clinic.db", "postgres://u@db/clinic");
    let postgres = postgres.replace("main.patients", "public.patients");
    let both = "second = 0\nmax_replica_lag = \"10s\"\nmax_dead_tuples = 5\nconnections = 3";
    let expected = Limits {
        max_replica_lag: Some(Duration::from_secs(10)),
        max_dead_tuples: Some(5),
        connections: NonZeroU32::new(3),
        ..Limits::default()
    };
    assert_eq!(limits(&postgres.replace("second = 0", both)), expected);
}

#[test]
fn limits_that_nothing_could_keep_are_refused() {
    for (limit, key, expected) in [
        (
            "max_replica_lag = \"10s\"",
            "max_replica_lag",
            "SQLite has no replicas",
        ),
        ("max_dead_tuples = 5", "max_dead_tuples", "no dead tuples"),
        ("connections = 3", "connections", "SQLite is a file"),
        ("max_dead_rows = 5", "max_dead_rows", "no such key"),
        (
            "urgent = \"now\"",
            "urgent",
            "expected \"hurry\" or \"as-usual\"",
        ),
    ] {
        let text = with("window =", &format!("{limit}\nwindow ="));
        refused(&text, &format!("source[0].limits.{key}"), expected);
    }
    refused(
        &with("window = \"\"", "window = \"22:00-05:00\""),
        "source[0].limits.window",
        "Europe/Berlin",
    );
}

#[test]
fn a_master_key_in_aws_is_named_by_alias_region_and_endpoint() {
    let local = "provider = \"local\"\npath = \"/var/lib/rekey/master.key\"";
    let aws = "provider = \"aws\"\nmaster_key = \"alias/phi-master-key\"";
    let place = "region = \"eu-west-3\"\nendpoint_url = \"http://127.0.0.1:5000\"";
    for (text, place) in [
        (aws.to_owned(), None),
        (
            format!("{aws}\n{place}"),
            Some(("eu-west-3", "http://127.0.0.1:5000")),
        ),
    ] {
        let expected = KmsConfig::Aws {
            master_key: "alias/phi-master-key".to_owned(),
            region: place.map(|(region, _)| region.to_owned()),
            endpoint_url: place.map(|(_, url)| url.to_owned()),
        };
        assert_eq!(load(&with(local, &text), &[]).unwrap().kms, expected);
    }
}

#[test]
fn a_kms_that_cannot_be_is_refused() {
    let local = "provider = \"local\"\npath = \"/var/lib/rekey/master.key\"";
    let aws = |more: &str| with(local, &format!("provider = \"aws\"\n{more}"));
    refused(&aws(""), "kms.master_key", "is missing");
    refused(&aws("master_key = \"\""), "kms.master_key", "is empty");
    let named = "master_key = \"alias/x\"\n";
    for (more, key, problem) in [
        ("path = \"x\"", "kms.path", "belongs to the local KMS"),
        ("region = \"Paris\"", "kms.region", "eu-west-3"),
        ("endpoint_url = \"kms\"", "kms.endpoint_url", "https://"),
        (
            "endpoint_url = \"https://u:secret@kms\"",
            "kms.endpoint_url",
            "without user and password",
        ),
    ] {
        refused(&aws(&format!("{named}{more}")), key, problem);
    }
    for name in ["master_key", "endpoint_url", "region"] {
        let more = format!("{local}\n{name} = \"x\"");
        let key = format!("kms.{name}");
        refused(&with(local, &more), &key, "belongs to AWS KMS");
    }
    refused(
        &with("\"local\"", "\"vault\""),
        "kms.provider",
        "expected \"local\" or \"aws\"",
    );
}

#[test]
fn a_keyring_has_the_algorithm_it_says_else_gcm() {
    let cbc = with("rotate =", "algorithm = \"AES-256-CBC\"\nrotate =");
    for (text, algorithm) in [
        (EXAMPLE, Algorithm::Aes256Gcm),
        (&cbc, Algorithm::Aes256Cbc),
    ] {
        let config = load(text, &[]).unwrap();
        assert_eq!(config.keyrings[0].algorithm, algorithm);
    }
}

#[test]
fn a_policy_that_cannot_be_is_refused() {
    let cases = [
        (
            "rotate = \"0 0 1 * *\"",
            "rotate = \"monthly\"",
            "rotate",
            "cron line",
        ),
        (
            "rotate = \"0 0 1 * *\"",
            "rotate = \"0 0 30 2 *\"",
            "rotate",
            "names no day",
        ),
        (
            "rotate =",
            "time_zone = \"Mars\"\nrotate =",
            "time_zone",
            "IANA",
        ),
        (
            "rotate =",
            "algorithm = \"AES-128-CBC\"\nrotate =",
            "algorithm",
            "expected AES-256-GCM or AES-256-CBC",
        ),
        (
            "rotate =",
            "keyset_max_age = \"0s\"\nrotate =",
            "keyset_max_age",
            "at least 1s",
        ),
        (
            "rotate =",
            "max_encryptions = 4294967297\nrotate =",
            "max_encryptions",
            "to 4294967296",
        ),
        (
            "rotate =",
            "batch_rows = 0\nrotate =",
            "batch_rows",
            "from 1 to 100000",
        ),
        (
            "rotate =",
            "batch_rows = 100001\nrotate =",
            "batch_rows",
            "from 1 to 100000",
        ),
        (
            "rotate =",
            "straggler_look = \"30m\"\nrotate =",
            "straggler_look",
            "\"off\" or at least 1h",
        ),
        (
            "rotate =",
            "straggler_look = \"never\"\nrotate =",
            "straggler_look",
            "\"off\" or at least 1h",
        ),
        (
            "concurrency = 5",
            "concurrency = 0",
            "concurrency",
            "from 1 to 64",
        ),
        (
            "concurrency = 5",
            "concurrency = 65",
            "concurrency",
            "from 1 to 64",
        ),
        (
            "concurrency = 5",
            "concurrency = -1",
            "concurrency",
            "found -1",
        ),
        (
            "concurrency = 5",
            "concurrency = 1.5",
            "concurrency",
            "found a fraction",
        ),
        ("\"7d\"", "\"week\"", "grace_period", "such as 7d"),
        (
            "\"7d\"",
            "\"4m\"",
            "grace_period",
            "could still write under the old key",
        ),
        ("\"90d\"", "\"7d\"", "key_lifetime", "expire before"),
        ("\"PHI\"", "\"phi\"", "purpose", "expected PHI"),
        ("\"PHI\"", "\"AUDIT\"", "purpose", "keyring audit alone"),
        ("\"PHI\"", "\"SIGNING\"", "purpose", "keyring signing alone"),
        (
            "\"PHI\"",
            "\"PHI\"\nalgorithm = \"Ed25519\"",
            "algorithm",
            "such as AES-256-GCM",
        ),
        ("purpose = \"PHI\"", "", "purpose", "is missing"),
    ];
    for (old, new, key, says) in cases {
        refused(&with(old, new), &format!("keyring[0].{key}"), says);
    }
}

#[test]
fn names_must_fit_together() {
    let keyring = "[[keyring]]\nname = \"phi\"\npurpose = \"PHI\"\n[[source]]\nname = \"clinic\"";
    refused(
        &with("[[source]]\nname = \"clinic\"", keyring),
        "keyring[1].name",
        "keyring[0].name",
    );
    let audit = "[[keyring]]\nname = \"audit\"\npurpose = \"PHI\"\n[[source]]\nname = \"clinic\"";
    refused(
        &with("[[source]]\nname = \"clinic\"", audit),
        "keyring[1].purpose",
        "Rekey's own",
    );
    let signing = audit.replace("audit", "signing");
    refused(
        &with("[[source]]\nname = \"clinic\"", &signing),
        "keyring[1].purpose",
        "expected SIGNING",
    );
    refused(
        &with("name = \"clinic\"", "name = \"rekey\""),
        "source[0].name",
        "the store itself",
    );
    refused(
        &with("name = \"clinic\"", "name = \"a.b\""),
        "source[0].name",
        "letters, digits",
    );
    let ssn = "source[0].table[0].columns.ssn";
    refused(
        &with("ssn = { keyring = \"phi\"", "ssn = { keyring = \"x\""),
        &format!("{ssn}.keyring"),
        "there is phi",
    );
    refused(
        &with("ssn = { keyring = \"phi\"", "ssn = { keyring = \"audit\""),
        &format!("{ssn}.keyring"),
        "alone",
    );
    refused(
        &with("ssn = { keyring = \"phi\"", "ssn = { keyring = \"signing\""),
        &format!("{ssn}.keyring"),
        "alone",
    );
    refused(
        &with("\"clinic.ssn\"", "\"clinic.main.patients.notes\""),
        &format!("{ssn}.id"),
        "columns.notes.id",
    );
    refused(
        &with("\"clinic.ssn\"", "\"rekey.audit_detail.details\""),
        &format!("{ssn}.id"),
        "the store's own",
    );
}

#[test]
fn a_bind_is_said_and_never_changes() {
    let notes = "source[0].table[0].columns.notes.bind";
    for (new, says) in [
        ("", "no default"),
        (", bind = \"rows\"", "none of these"),
        (", bind = []", "none of these"),
        (", bind = [\"SSN\"]", "changes with every rotation"),
        (", bind = [\"a\", \"A\"]", "named twice"),
    ] {
        refused(&with(", bind = [\"uuid\"]", new), notes, says);
    }
}

#[test]
fn a_table_is_named_once_and_has_columns() {
    let table = "[[source.table]]\nname = \"b\"\nrelation = \"Patients\"\ncolumns = { x = { keyring = \"phi\", bind = \"row\" } }\n[source.limits]";
    refused(
        &with("[source.limits]", table),
        "source[0].table[1].relation",
        "table[0].relation",
    );
    let empty = "[[source.table]]\nname = \"b\"\n[source.limits]";
    refused(
        &with("[source.limits]", empty),
        "source[0].table[1].columns",
        "no column",
    );
}

#[test]
fn every_problem_is_told() {
    let text = with("concurrency = 5", "concurrency = 0")
        .replace("\"7d\"", "\"x\"")
        .replace("\"uuid\"", "\"ssn\"");
    let errors = load(&text, &[]).unwrap_err();
    let keys: Vec<_> = errors
        .problems
        .iter()
        .map(|problem| problem.key.as_str())
        .collect();
    let bind = "source[0].table[0].columns.notes.bind";
    assert_eq!(
        keys,
        [
            "keyring[0].grace_period",
            "keyring[0].concurrency",
            "monitoring.expiration_warning",
            bind
        ]
    );
    assert!(errors.to_string().contains("4 problems"), "{errors}");
}

#[test]
fn the_environment_lies_over_the_file() {
    let path = "sqlite:///elsewhere.db";
    let config = load(
        EXAMPLE,
        &[
            ("REKEY__STORE__URL", path),
            ("REKEY__SOURCE__CLINIC__URL", "sqlite:///other.db"),
            ("REKEY__KEYRING__PHI__CONCURRENCY", "9"),
            ("REKEY__SOURCE__CLINIC__TABLE__PATIENTS__RELATION", "people"),
            ("REKEY_LOG", "debug"),
        ],
    );
    let config = config.unwrap();
    assert_eq!(
        config.store.url.as_ref().map(SecretUrl::expose_url),
        Some(path)
    );
    assert_eq!(config.sources[0].url.expose_url(), "sqlite:///other.db");
    assert_eq!(config.sources[0].tables[0].relation, "people");
    assert_eq!(config.keyrings[0].policy.concurrency, 9);
}

#[test]
fn a_wrong_variable_is_named() {
    let problem = |name: &str| {
        let problems = load(EXAMPLE, &[(name, "1")]).unwrap_err().problems;
        assert_eq!(problems.len(), 1, "{problems:?}");
        problems[0].to_string()
    };
    assert!(problem("REKEY__STORE__URI").starts_with("store.uri: "));
    assert!(problem("REKEY__SOURCE__LAB__URL").contains("there is clinic"));
    assert!(problem("REKEY__SOURCE__CLINIC").contains("is not a table"));
    assert!(problem("REKEY__STORE__URL__X").contains("is not a table"));
}

#[test]
fn a_url_may_stand_in_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("url");
    std::fs::write(&file, "sqlite:///secret.db\n").unwrap();
    let name = file.to_str().unwrap();
    let config = load(EXAMPLE, &[("REKEY__STORE__URL_FILE", name)]).unwrap();
    assert_eq!(
        config.store.url.as_ref().map(SecretUrl::expose_url),
        Some("sqlite:///secret.db"),
        "the file's url gives way"
    );
    let both = load(
        EXAMPLE,
        &[
            ("REKEY__STORE__URL_FILE", name),
            ("REKEY__STORE__URL", "sqlite:///x.db"),
        ],
    );
    assert_eq!(both.unwrap_err().problems[0].key, "store.url_file");
    let missing = load(EXAMPLE, &[("REKEY__STORE__URL_FILE", "/nowhere")]).unwrap_err();
    assert!(missing.to_string().contains("cannot be read"), "{missing}");
    let endless = load(EXAMPLE, &[("REKEY__STORE__URL_FILE", "/dev/zero")]).unwrap_err();
    assert!(endless.to_string().contains("more than"), "{endless}");
}

#[test]
fn hostile_files_are_refused_and_never_panic() {
    let deep = format!("x = {}", "[".repeat(100_000));
    let tables = format!("[{}]", vec!["a"; 10_000].join("."));
    for text in [
        "keyring = 1",
        "keyring = [1, \"x\", []]",
        "[keyring]\nname = \"phi\"",
        "\"keyring[99999999999999]\" = 1",
        "\"keyring[-1].name\" = 1",
        "\"\" = 1",
        "store = []",
        "store.url = {}",
        "[store]\nurl = \"\"",
        "[store]\nurl = \"sqlite:\"",
        "[store]\nurl = \"sqlite::memory:\"",
        "[[source]]",
        "[[source]]\nname = \"\u{0}\"\ntable = [[]]",
        "[[source]]\nurl = 1\n[[source.table]]\ncolumns = 1",
        "[[source]]\n[[source.table]]\ncolumns = { \"\" = 1, \"a.b\" = [] }",
        "[[keyring]]\nname = \"phi\"\nconcurrency = 9223372036854775807\npurpose = \"PHI\"",
        "[[keyring]]\nconcurrency = 99999999999999999999",
        "[[keyring]]\nconcurrency = nan",
        "[[keyring]]\ngrace_period = \"99999999999999999999d\"",
        "a = 1\na = 2",
        "\u{feff}\u{feff}",
        "[store",
        &deep,
        &tables,
    ] {
        let start: String = text.chars().take(40).collect();
        assert!(load(text, &[]).is_err(), "{start}");
    }
    for name in [
        "REKEY__",
        "REKEY____",
        "REKEY__KEYRING[9999999999]",
        "REKEY__KEYRING__9__X",
        "REKEY__A.B",
    ] {
        assert!(load(EXAMPLE, &[(name, "x")]).is_err(), "{name}");
    }
}

#[test]
fn secrets_are_not_quoted() {
    let secret = "hunter2";
    for text in [
        format!("[store]\nurl = \"mysql://u:{secret}@db\""),
        format!("[store]\nurl = \"{secret}\""),
        format!("[store]\nurl = \"postgres://u:{secret}@db\nx = 1"),
        format!("[store]\nurl = postgres://u:{secret}@db"),
        format!(
            "[[source]]\nname = \"a\"\nurl = \"sqlite://{secret}\"\n[[source]]\nname = \"b\"\nurl = \"sqlite://{secret}\""
        ),
    ] {
        let errors = load(&text, &[]).unwrap_err().to_string();
        assert!(!errors.contains(secret), "{errors}");
    }
}

/// `u:12` would be a host and a port, and the rest of the password the name of a database.
#[test]
fn a_password_that_ends_its_url_early_is_refused_and_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("url");
    std::fs::write(&file, "postgres://u:12/hunter2@host/x").unwrap();
    let in_file = format!("[store]\nurl_file = {file:?}");
    let source = |url| format!("[[source]]\nname = \"a\"\nurl = \"{url}\"");
    for text in [
        "[store]\nurl = \"postgres://u:12/hunter2@host/x\"".to_owned(),
        "[store]\nurl = \"postgres:u:hunter2@host/x\"".to_owned(),
        "[broker]\nurl = \"amqp://u:12/hunter2@host/%2f\"".to_owned(),
        source("postgres://u:12?hunter2@host/x"),
        source("postgres://u:12#hunter2@host/x"),
        in_file,
    ] {
        let errors = load(&text, &[]).unwrap_err().to_string();
        assert!(
            errors.contains("%2F") && !errors.contains("hunter2"),
            "{errors}"
        );
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let errors = Config::load(Some("/nowhere/rekey.toml".as_ref())).unwrap_err();
    assert!(
        errors
            .to_string()
            .contains("/nowhere/rekey.toml: cannot be read"),
        "{errors}"
    );
}

#[test]
fn a_principal_may_publish_what_is_listed() {
    let all = "[\"rotation.requested\", \"key.compromised\", \"backup.requested\"]";
    let text = with("[\"backup.requested\"]", all);
    let principals = load(&text, &[]).unwrap().principals;
    let [siem] = &principals[..] else {
        panic!("{principals:?}")
    };
    assert_eq!(
        (siem.principal.to_string().as_str(), siem.amqp_user.as_str()),
        ("amqp:siem", "siem")
    );
    let types = [
        "rekey.rotation.requested.v1",
        "rekey.key.compromised.v1",
        "rekey.backup.requested.v1",
    ];
    assert_eq!(siem.may, types);
}

#[test]
fn a_principal_that_cannot_be_is_refused() {
    refused(
        &with("\"backup.requested\"", "\"batch.ready\""),
        "principal[0].may",
        "expected \"rotation.requested\"",
    );
    refused(
        &with("may = [\"backup.requested\"]", "may = \"everything\""),
        "principal[0].may",
        "expected a list",
    );
    refused(
        &with("amqp_user = \"siem\"", "amqp_user = \"\""),
        "principal[0].amqp_user",
        "is empty",
    );
    let twice = "[[principal]]\nname = \"other\"\namqp_user = \"siem\"\nmay = []\n\n[monitoring]";
    refused(
        &with("[monitoring]", twice),
        "principal[1].amqp_user",
        "principal[0].amqp_user",
    );
}

#[test]
fn a_source_on_postgresql_may_suppress_triggers() {
    let text = with(
        "sqlite:///var/lib/clinic.db",
        "postgres://rekey:s3cret@db/clinic",
    )
    .replacen("\"fire\"", "\"suppress\"", 1);
    let config = load(&text, &[]).unwrap();
    let on_update = config.sources[0].tables[0].on_update;
    assert_eq!(on_update.triggers, Some(Triggers::Suppress));
    assert!(on_update.publications_accepted);
    let silent = config.without_effect.iter();
    assert!(
        !silent
            .clone()
            .any(|problem| problem.key.contains("publications"))
    );
    refused(
        &text.replacen("\"suppress\"", "\"later\"", 1),
        "source[0].table[0].on_update.triggers",
        "\"fire\" or \"suppress\"",
    );
}

/// Two channels, as one would write them.
const CHANNELS: &str = r#"
[[channel]]
name = "ops"
kind = "webhook"
url_file = "/run/secrets/url"
secret_file = "/run/secrets/key"
severity = "HIGH"
kinds = ["COMPROMISED", "ROTATION_FAILED"]

[[channel]]
name = "mail"
kind = "mail"
server = "mail.clinic.example"
from = "rekey@clinic.example"
to = ["ops@clinic.example"]
"#;

#[test]
fn channels_are_read_with_what_goes_there_and_how_they_are_reached() {
    let channels = load(CHANNELS, &[]).unwrap().channels;
    let [ops, mail] = &channels[..] else {
        panic!("{channels:#?}");
    };
    assert_eq!(ops.policy.severity, Severity::High);
    assert_eq!(ops.policy.kinds.as_ref().map(Vec::len), Some(2));
    assert!(
        matches!(
            ops.receiver,
            ReceiverConfig::Webhook {
                allow_private: false,
                ..
            }
        ),
        "{ops:#?}"
    );
    assert_eq!(mail.policy.severity, Severity::Low);
    assert!(
        matches!(mail.receiver, ReceiverConfig::Mail { port: 587, .. }),
        "{mail:#?}"
    );
}

#[test]
fn a_channel_that_cannot_be_is_refused_with_one_error_that_names_the_key() {
    let cases = [
        (
            "name = \"mail\"",
            "name = \"ops\"",
            "channel[1].name",
            "already a channel",
        ),
        (
            "name = \"ops\"",
            "name = \"Ops 1\"",
            "channel[0].name",
            "a-z",
        ),
        ("\"webhook\"", "\"pigeon\"", "channel[0].kind", "\"slack\""),
        ("\"HIGH\"", "\"high\"", "channel[0].severity", "CRITICAL"),
        (
            "\"ROTATION_FAILED\"",
            "\"SOMETHING\"",
            "channel[0].kinds",
            "COMPROMISED",
        ),
        (
            "\"ROTATION_FAILED\"",
            "\"KEY_MAY_BE_DESTROYED\"",
            "channel[0].kinds",
            "KEY_MAY_BE_DESTROYED is never HIGH",
        ),
        (
            "[\"COMPROMISED\", \"ROTATION_FAILED\"]",
            "[]",
            "channel[0].kinds",
            "empty",
        ),
        (
            "url_file = \"/run/secrets/url\"\n",
            "",
            "channel[0].url_file",
            "missing",
        ),
        (
            "secret_file = \"/run/secrets/key\"\n",
            "",
            "channel[0].secret_file",
            "missing",
        ),
        (
            "severity =",
            "severety =",
            "channel[0].severety",
            "no such key",
        ),
        (
            "\"rekey@clinic.example\"",
            "\"rekey\"",
            "channel[1].from",
            "mail address",
        ),
        (
            "[\"ops@clinic.example\"]",
            "[\"o@p, q@r\"]",
            "channel[1].to",
            "mail address",
        ),
        ("[\"ops@clinic.example\"]", "[]", "channel[1].to", "missing"),
        (
            "\"mail.clinic.example\"",
            "\"mail.clinic.example:25\"",
            "channel[1].server",
            "port",
        ),
        (
            "to =",
            "user = \"ana\"\nto =",
            "channel[1].secret_file",
            "both",
        ),
    ];
    for (old, new, key, says) in cases {
        assert!(CHANNELS.contains(old), "{old}");
        refused(&CHANNELS.replacen(old, new, 1), key, says);
    }
    let link = "[monitoring]\nrunbooks = \"http://wiki\"\n";
    refused(link, "monitoring.runbooks", "https://");
}

#[test]
fn a_mode_of_tls_that_there_is_not_is_named() {
    refused(
        "[store]\nurl = \"postgres://db/x?sslmode=verify_full\"",
        "store.url",
        "unknown sslmode",
    );
}
