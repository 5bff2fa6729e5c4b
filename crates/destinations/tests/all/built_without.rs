//! A program without services says so by name; with them it says what else is missing.

use rekey_destinations::{DestinationError, Environment, open_with};

#[test]
fn what_cannot_be_opened_is_said_by_name() {
    let without = |service: &str| format!("this program was built without {service}; ");
    for (url, service, needed) in [
        ("s3://bucket", "S3", "no region is said; "),
        ("az://container", "Azure", "no account is said; "),
    ] {
        let refused = open_with(&url.parse().unwrap(), Environment::new(&|_| None))
            .err()
            .unwrap();
        let DestinationError::Configuration { place, problem } = &refused else {
            panic!("{refused}");
        };
        let services = cfg!(feature = "services");
        let expected = if services {
            needed.to_owned()
        } else {
            without(service)
        };
        assert!(place == url && problem.starts_with(&expected), "{refused}");
        assert!(!refused.is_retryable());
    }
}
