//! What the addresses of one mail answered: whom it is sent to again, and whether it is done.

use serde::{Deserialize, Serialize};

/// The addresses that took a mail, and those that never will.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answers {
    /// They have it.
    pub taken: Vec<String>,
    /// They refused it for good.
    #[serde(default)]
    pub refused: Vec<String>,
}

impl Answers {
    /// Whether the mail is sent to this address, again or for the first time.
    pub fn wants(&self, address: &str) -> bool {
        let is_it = |one: &String| one == address;
        !self.taken.iter().any(is_it) && !self.refused.iter().any(is_it)
    }

    /// Those that have it: what was given up is tried with all others once more, if it is ever told after all.
    #[must_use]
    pub fn given_up(self) -> Self {
        Self {
            refused: Vec::new(),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gets_it_twice_and_who_refused_it_is_asked_again_only_when_it_is_told_after_all() {
        let answers = Answers {
            taken: vec!["ops@clinic.example".to_owned()],
            refused: vec!["gone@clinic.example".to_owned()],
        };
        let wants = |answers: &Answers| {
            ["ops", "gone", "late"].map(|name| answers.wants(&format!("{name}@clinic.example")))
        };
        assert_eq!(wants(&answers), [false, false, true]);
        assert_eq!(wants(&answers.given_up()), [false, true, true]);
        assert_eq!(wants(&Answers::default()), [true; 3]);
    }
}
