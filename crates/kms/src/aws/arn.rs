//! Names of master keys in AWS: what an ARN says, and what of it may be shown.

/// No id or ARN is longer.
const MAX_LEN: usize = 2_048;

/// Account and region of a master key: its ARN up to the id.
pub(super) fn home(arn: &str) -> Option<&str> {
    let (home, id) = arn.rsplit_once(":key/")?;
    let is_whole = home.starts_with("arn:") && home.split(':').count() == 5 && !id.is_empty();
    (is_whole && is_name(arn)).then_some(home)
}

/// The region an ARN is of.
pub(super) fn region(arn: &str) -> Option<&str> {
    let region = arn.strip_prefix("arn:")?.split(':').nth(2)?;
    (!region.is_empty()).then_some(region)
}

/// The first word of a service's message that is the ARN of a master key. Of a message nothing else
/// is ever shown.
pub(super) fn named_in(message: &str) -> Option<&str> {
    let words = message.split_whitespace();
    words
        .map(|word| word.trim_matches(|c: char| !c.is_ascii_alphanumeric()))
        .find(|word| home(word).is_some())
}

/// An ARN for people, unless it is something else.
pub(super) fn shown(arn: &str) -> String {
    match home(arn) {
        Some(_) => arn.to_owned(),
        None => "(no ARN of a master key)".to_owned(),
    }
}

/// Whether `text` has only what names of keys and aliases have.
pub(super) fn is_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '/' | '_' | '-');
    !text.is_empty() && text.len() <= MAX_LEN && text.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:kms:eu-west-3:111122223333:key/mrk-0123";

    #[test]
    fn a_home_is_account_and_region() {
        assert_eq!(home(ARN), Some("arn:aws:kms:eu-west-3:111122223333"));
        assert_eq!(region(ARN), Some("eu-west-3"));
        for other in [
            "",
            "mrk-0123",
            "arn:aws:kms:eu-west-3:111122223333:key/",
            "arn:aws:kms:eu-west-3:111122223333:alias/phi",
            "arn:aws:kms:eu-west-3:key/1",
            "arn:aws:kms:eu-west-3:1:key/a b",
        ] {
            assert_eq!(home(other), None, "{other}");
        }
    }

    #[test]
    fn of_a_message_only_an_arn_is_shown() {
        let message = format!("secret={ARN} \"{ARN}\" is disabled.");
        assert_eq!(named_in(&message), Some(ARN));
        assert_eq!(named_in("the secret is hunter2"), None);
    }
}
