//! What an error of the operating system means, in our words: its own may name files of others, or nothing at all.

use std::io::{Error, ErrorKind};

/// What it means, for people.
pub fn io_words(error: &Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "there is no such file or directory".to_owned(),
        ErrorKind::PermissionDenied => "this process may not open it".to_owned(),
        ErrorKind::ConnectionRefused => "nothing listens there".to_owned(),
        ErrorKind::TimedOut => "no answer came in time".to_owned(),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            "no network leads there".to_owned()
        }
        ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe
        | ErrorKind::NotConnected
        | ErrorKind::UnexpectedEof => "the connection ended".to_owned(),
        _ if error.to_string().starts_with("failed to lookup address") => {
            "its host's name is not known".to_owned()
        }
        kind => match error.raw_os_error() {
            Some(number) => format!("the operating system refuses (error {number})"),
            None => kind.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_is_said_so_that_people_can_act() {
        for (kind, said) in [
            (ErrorKind::NotFound, "no such file"),
            (ErrorKind::ConnectionRefused, "nothing listens"),
            (ErrorKind::UnexpectedEof, "the connection ended"),
        ] {
            let words = io_words(&Error::new(kind, "expected to read 5 bytes, got 0"));
            assert!(
                words.contains(said) && !words.contains("5 bytes"),
                "{words}"
            );
        }
        let lookup = "failed to lookup address information: Name or service not known";
        assert_eq!(
            io_words(&Error::other(lookup)),
            "its host's name is not known"
        );
        let unknown = io_words(&Error::from_raw_os_error(122));
        assert!(!unknown.contains("uncategorized"), "{unknown}");
    }
}
