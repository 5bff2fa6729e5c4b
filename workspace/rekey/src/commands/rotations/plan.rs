//! `rekey rotate --plan`: what a rotation would do, and what stands in its way.

use std::time::Duration;

use rekey_domain::{Basis, Finding, KeyringName, Need, Triggers, format_duration};
use rekey_operations::{ColumnPlan, Opening, RotationPlan, TablePlan, rotation_plan};
use rekey_sources::Measure;

use crate::{
    app::App,
    exit::Exit,
    output::{self, Output, optional},
};

/// Prints the plan; exit code 3 if a person is needed before the rotation.
pub async fn run(keyring: &KeyringName, count: bool, app: &App) -> anyhow::Result<Exit> {
    let how = measure(count);
    let plan = rotation_plan(&app.services, &app.desired, keyring, how, &app.principal).await?;
    match app.output {
        Output::Json => output::object("rekey.plan/v1", serde_json::to_value(&plan)?)?,
        Output::Table => print(&plan)?,
    }
    Ok(exit(&plan.findings, plan.complete))
}

/// Whether rows are counted.
pub fn measure(count: bool) -> Measure {
    if count {
        Measure::Count
    } else {
        Measure::Estimate
    }
}

/// Whether a person is needed, or something was not looked at: a lock is given back, and then it can be.
pub fn exit(findings: &[Finding], complete: bool) -> Exit {
    let person = findings.iter().any(|finding| finding.need == Need::Person);
    match (person, complete) {
        (true, _) => Exit::PersonNeeded,
        (false, false) => Exit::OutOfReach,
        (false, true) => Exit::Done,
    }
}

/// What was found, as a table; says so where that is nothing.
pub fn print_findings(findings: &[Finding], nothing: &str) -> std::io::Result<()> {
    if findings.is_empty() {
        return output::line(nothing);
    }
    let rows = findings.iter().map(|finding| {
        [
            finding.need.as_str().to_owned(),
            finding.subject.clone(),
            finding.problem.clone(),
        ]
    });
    output::table(["NEEDS", "ABOUT", "WHAT"], rows.collect())
}

fn print(plan: &RotationPlan) -> std::io::Result<()> {
    let columns = plan.tables.iter().flat_map(|table| {
        let found = table.found.as_str();
        table
            .columns
            .iter()
            .map(move |column| column_row(column, found))
    });
    output::table(
        [
            "COLUMN",
            "VALUES",
            "BYTES",
            "INDEXES",
            "FOUND BY",
            "TRIED",
            "OPENED",
            "NOT OPENED",
        ],
        columns.collect(),
    )?;
    output::line("")?;
    let head = [
        "TABLE",
        "ROWS",
        "SIZE",
        "WAL",
        "GROWTH",
        "HOT",
        "TRIGGERS",
        "PUBLICATIONS",
        "SLOTS",
    ];
    output::table(head, plan.tables.iter().map(table_row).collect())?;
    output::line("")?;
    for line in sums(plan) {
        output::line(&line)?;
    }
    output::line("")?;
    print_findings(
        &plan.findings,
        "nothing stands in the way; nothing was changed",
    )
}

fn column_row(column: &ColumnPlan, found: &str) -> [String; 8] {
    [
        column.column.clone(),
        column.values.to_string(),
        bytes(column.bytes),
        list(&column.indexes),
        found.to_owned(),
        column.opening.tried.to_string(),
        column.opening.opened.to_string(),
        not_opened(&column.opening),
    ]
}

/// Why values did not open, and how many.
pub fn not_opened(opening: &Opening) -> String {
    let reasons = opening.not_opened.iter();
    let reasons: Vec<_> = reasons
        .map(|(reason, values)| format!("{values} {reason}"))
        .collect();
    list(&reasons)
}

fn table_row(table: &TablePlan) -> [String; 9] {
    let triggers = match table.triggers {
        _ if table.update_triggers.is_empty() => "-".to_owned(),
        None => format!("{} (nothing said)", list(&table.update_triggers)),
        Some(Triggers::Fire) => format!("{} (fire)", list(&table.update_triggers)),
        Some(Triggers::Suppress) => format!("{} (suppressed)", list(&table.update_triggers)),
    };
    [
        table.table.clone(),
        table.rows.to_string(),
        bytes(table.heap_bytes + table.toast_bytes),
        bytes(table.wal_bytes),
        bytes(table.bloat_bytes),
        hot(table),
        triggers,
        list(&table.publications),
        list(&table.replication_slots),
    ]
}

/// What is expected, and what was so far.
fn hot(table: &TablePlan) -> String {
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    match (table.hot_expected, table.hot_so_far) {
        (None, _) => "-".to_owned(),
        (Some(expected), None) => percent(expected),
        (Some(expected), Some(so_far)) => {
            format!("{} (so far {})", percent(expected), percent(so_far))
        }
    }
}

fn sums(plan: &RotationPlan) -> [String; 4] {
    let all = if plan.complete {
        ""
    } else {
        ", without the tables that could not be looked at"
    };
    let why = &plan.time.assumption;
    let time = match (plan.time.seconds, plan.time.values_per_second) {
        (Some(seconds), Some(rate)) => {
            let lasts = format_duration(Duration::from_secs(seconds.max(1)));
            format!("{lasts} at {rate:.0} values a second ({why})")
        }
        (None, Some(rate)) => {
            format!("{rate:.0} values a second ({why}); not all could be looked at")
        }
        _ => why.clone(),
    };
    let target = optional(plan.target.as_ref());
    [
        format!(
            "{} to move to {target}, {} of write-ahead log, growth by {}{all}",
            values(plan),
            bytes(plan.wal_bytes),
            bytes(plan.bloat_bytes)
        ),
        format!("time: {time}"),
        format!(
            "KMS: {} GenerateDataKey, and {} Decrypt of each process that moves rows",
            plan.kms.generate, plan.kms.decrypt_each_process
        ),
        format!(
            "encryptions under {target}: {} made, {} more, at most {}",
            plan.encryptions.used, plan.encryptions.planned, plan.encryptions.limit
        ),
    ]
}

/// An estimate is of rows that are not NULL.
fn values(plan: &RotationPlan) -> String {
    let counted = |table: &TablePlan| table.found == Basis::Counted;
    match plan.tables.iter().all(counted) {
        true => format!("{} value(s)", plan.values),
        false => format!(
            "an estimated {} value(s), blank ones among them (--count reads every row)",
            plan.values
        ),
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        "-".to_owned()
    } else {
        names.join(", ")
    }
}

/// Bytes in the largest unit that there is one of.
fn bytes(bytes: u64) -> String {
    let units = [
        (1_u64 << 40, "TiB"),
        (1 << 30, "GiB"),
        (1 << 20, "MiB"),
        (1 << 10, "KiB"),
    ];
    let fits = units.into_iter().find(|(size, _)| bytes / size > 0);
    match fits {
        Some((size, unit)) => format!("{:.1} {unit}", bytes as f64 / size as f64),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_in_a_unit_that_people_read() {
        let cases = [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_536, "1.5 KiB"),
            (5 << 30, "5.0 GiB"),
        ];
        for (given, shown) in cases {
            assert_eq!(bytes(given), shown);
        }
    }

    #[test]
    fn a_person_is_needed_only_where_a_finding_says_so() {
        let note = Finding::note("a", "b");
        let time = [note.clone(), Finding::time("a", "b")];
        assert_eq!(exit(&time, true), Exit::Done);
        assert_eq!(exit(&time, false), Exit::OutOfReach);
        let person = [note, Finding::person("a", "b")];
        assert_eq!(exit(&person, false), Exit::PersonNeeded);
    }
}
