//! Whether who backs keys up could also erase the backups.

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString};

/// What a verifier found when it tried to erase an object of its own at a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Display, EnumString)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case", parse_err_ty = String, parse_err_fn = not_one)]
pub enum Erasable {
    /// It could. A directory always is.
    Yes,
    /// It could write over an object, of which the destination keeps the version before.
    Versioned,
    /// It could not.
    No,
}

fn not_one(text: &str) -> String {
    format!("{text:?}: expected yes, versioned or no")
}

impl Erasable {
    /// In words.
    pub fn says(self) -> &'static str {
        match self {
            Self::Yes => "whoever takes the verifier over can erase what is kept there",
            Self::Versioned => {
                "whoever takes the verifier over can hide what is kept there; the versions before stay, unless it may delete those"
            }
            Self::No => "the verifier can neither write over nor delete there",
        }
    }
}
