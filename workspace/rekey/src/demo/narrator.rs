//! The narrator tells the demo's story to people, line by line, and nothing to programs.

use std::{
    io::{IsTerminal, Write},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::{self, Output};

/// Tells the story on stdout for people; on a terminal with a bar on stderr.
pub struct Narrator {
    output: Output,
    bar: ProgressBar,
}

impl Narrator {
    /// A narrator; silent where the output is for programs.
    pub fn new(output: Output) -> Self {
        let visible = matches!(output, Output::Table) && std::io::stderr().is_terminal();
        let target = if visible {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(1), target);
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} rows  {msg}")
            .expect("a valid template");
        bar.set_style(style);
        Self { output, bar }
    }

    /// One line of the story.
    pub fn line(&self, text: &str) {
        if matches!(self.output, Output::Table) {
            self.bar
                .suspend(|| writeln!(std::io::stdout(), "{text}").ok());
        }
    }

    /// What a person must know even where the output is for programs: then on stderr.
    pub fn remark(&self, text: &str) {
        match self.output {
            Output::Table => self.line(text),
            Output::Json => output::note(text),
        }
    }

    /// What may be done next.
    pub fn next(&self, commands: &[String]) {
        self.line("\nTry next");
        for command in commands {
            self.line(&format!("  {command}"));
        }
    }

    /// How results are printed.
    pub fn output(&self) -> Output {
        self.output
    }

    /// How far the rows are.
    pub fn progress(&self, moved: u64, rows: u64, elapsed: Duration) {
        let rate = moved as f64 / elapsed.as_secs_f64().max(0.001);
        let left = rows.saturating_sub(moved) as f64 / rate.max(1.0);
        self.bar.set_length(rows);
        self.bar.set_position(moved.min(rows));
        self.bar
            .set_message(format!("{rate:.0} rows/s, {left:.0} s left"));
    }

    /// The story is told.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}
