//! A Slack webhook.

use std::path::Path;

use serde_json::json;

use super::{
    http::{self, Target},
    problem::Problem,
};
use crate::letter::{Failure, Letter, escaped, lines};

/// A webhook of Slack, whose URL is its secret.
pub struct Slack {
    target: Target,
}

impl Slack {
    pub(super) fn open(url_file: &Path, allow_private: bool) -> Result<Self, Problem> {
        let target = Target::in_file("url_file", url_file, allow_private)?;
        Ok(Self { target })
    }

    pub(super) async fn send(&self, letter: &Letter<'_>) -> Result<(), Failure> {
        let notice = letter.notice;
        let said = lines(notice).map(|(name, value)| format!("{name}: {}", escaped(&value)));
        let said: Vec<_> = said.collect();
        let text = format!("*{}*\n{}", escaped(&notice.title()), said.join("\n"));
        http::post(&self.target, &[], json!({ "text": text }).to_string()).await
    }
}
