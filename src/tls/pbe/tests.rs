use super::*;

fn hex(text: &str) -> Vec<u8> {
    data_encoding::HEXUPPER.decode(text.as_bytes()).unwrap()
}

/// The test vectors of the other implementations, which took them from each other.
#[test]
fn keys_are_derived_as_everywhere_else() {
    let salt = [1, 2, 3, 4, 5, 6, 7, 8];
    let rounds = NonZeroU32::new(100).unwrap();
    let password = Password::new("ge@äheim".as_bytes()).utf16();
    for (purpose, expected) in [
        (
            Purpose::Key,
            "FAE4D4957A3CC781E1180B9D4FB79C1E0C8579B746A3177E5B0768A3118BF863",
        ),
        (
            Purpose::Iv,
            "E5FF813BC6547DE5155B14D2FADA85B3201A977349DB6E26CCC998D9E8F83D6C",
        ),
        (
            Purpose::Mac,
            "136355ED9434516682534F46D63956DB5FF06B844702C2C1F3B46321E2524A4D",
        ),
    ] {
        let key = pkcs12_kdf(&digest::SHA256, &password, &salt, purpose, rounds, 32);
        assert_eq!(**key, hex(expected));
    }
}

/// RFC 4231 has no PBKDF2; SHA-256 by hand must be SHA-256 of the library.
#[test]
fn pbkdf2_by_hand_is_that_of_the_library() {
    let rounds = NonZeroU32::new(7).unwrap();
    for length in [1, 20, 32, 33, 100] {
        let (mut by_hand, mut by_library) = (vec![0; length], vec![0; length]);
        Hash::Sha256.pbkdf2_by_hand(rounds, b"salt", b"password", &mut by_hand);
        Hash::Sha256.pbkdf2(rounds, b"salt", b"password", &mut by_library);
        assert_eq!(by_hand, by_library);
    }
}

#[test]
fn passwords_are_utf16_whatever_they_contain() {
    for (bytes, expected) in [
        (&b""[..], "0000"),
        (b"a", "00610000"),
        ("ä".as_bytes(), "00E40000"),
        // Latin-1.
        (b"\xe4", "00E40000"),
        // Outside of the basic multilingual plane.
        ("\u{1f511}".as_bytes(), "D83DDD110000"),
    ] {
        assert_eq!(**Password::new(bytes).utf16(), hex(expected), "{bytes:x?}");
    }
    assert!(Password::none().utf16().is_empty());
}

/// An element of DER.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    [&[tag, 0x82][..], &length, &content].concat()
}

fn number(value: u64) -> Vec<u8> {
    der(INTEGER, &[&[0], &value.to_be_bytes()])
}

fn algorithm(oid: &[u8], parameters: &[u8]) -> Vec<u8> {
    der(SEQUENCE, &[&der(OBJECT_IDENTIFIER, &[oid]), parameters])
}

fn pbes2_with(derivation: &[u8], cipher: &[u8], iv: &[u8]) -> Vec<u8> {
    let cipher = algorithm(cipher, &der(0x04, &[iv]));
    algorithm(PBES2, &der(SEQUENCE, &[derivation, &cipher]))
}

fn pbkdf2_with(iterations: u64) -> Vec<u8> {
    let fields = [der(0x04, &[&[7; 8]]), number(iterations)];
    algorithm(PBKDF2, &der(SEQUENCE, &[&fields.concat()]))
}

fn scrypt_with(n: u64, r: u64, p: u64) -> Vec<u8> {
    let fields = [der(0x04, &[&[7; 8]]), number(n), number(r), number(p)];
    algorithm(SCRYPT, &der(SEQUENCE, &[&fields.concat()]))
}

fn outcome(algorithm: &[u8]) -> Result<(), PbeError> {
    let element = Reader::new(algorithm).element().unwrap();
    let password = Password::new(b"secret");
    decrypt(&element, &[0; 32], &password, &mut Work::default()).map(drop)
}

#[test]
fn absurd_parameters_are_rejected_before_the_work_is_done() {
    let absurd = [
        pbes2_with(&pbkdf2_with(MOST_ITERATIONS + 1), AES_256_CBC, &[0; 16]),
        pbes2_with(&pbkdf2_with(1 << 31), AES_256_CBC, &[0; 16]),
        pbes2_with(&pbkdf2_with(u64::MAX), AES_256_CBC, &[0; 16]),
        pbes2_with(&scrypt_with(1 << 40, 8, 1), AES_256_CBC, &[0; 16]),
        pbes2_with(&scrypt_with(1 << 63, 1, 1), AES_256_CBC, &[0; 16]),
        pbes2_with(&scrypt_with(2, u64::MAX, 1), AES_256_CBC, &[0; 16]),
        pbes2_with(&scrypt_with(2, 1 << 40, 1), AES_256_CBC, &[0; 16]),
        pbes2_with(&scrypt_with(2, 1, 1 << 40), AES_256_CBC, &[0; 16]),
        pbes2_with(&scrypt_with(1 << 14, 8, 1 << 20), AES_256_CBC, &[0; 16]),
        algorithm(
            PBE_3DES,
            &der(SEQUENCE, &[&der(0x04, &[&[7; 8]]), &number(1 << 31)]),
        ),
        algorithm(
            PBE_RC2_40,
            &der(SEQUENCE, &[&der(0x04, &[&[7; 8]]), &number(u64::MAX)]),
        ),
    ];
    for algorithm in absurd {
        assert_eq!(
            outcome(&algorithm),
            Err(PbeError::TooMuchWork),
            "{algorithm:x?}"
        );
    }
}

#[test]
fn work_adds_up_over_a_file() {
    let algorithm = pbes2_with(&pbkdf2_with(4), AES_256_CBC, &[0; 16]);
    let element = Reader::new(&algorithm).element().unwrap();
    let mut work = Work {
        iterations: 17,
        blocks: 0,
    };
    let password = Password::new(b"secret");
    let mut decrypt = || decrypt(&element, &[0; 32], &password, &mut work).map(drop);
    assert_eq!(decrypt(), Err(PbeError::WrongPassword));
    assert_eq!(decrypt(), Err(PbeError::WrongPassword));
    assert_eq!(decrypt(), Err(PbeError::TooMuchWork));
}

#[test]
fn nonsense_is_damaged_or_not_supported_and_never_a_panic() {
    for (algorithm, expected) in [
        (
            pbes2_with(&pbkdf2_with(0), AES_256_CBC, &[0; 16]),
            PbeError::Damaged,
        ),
        // An initialization vector that is too short panics in some implementations.
        (
            pbes2_with(&pbkdf2_with(1), DES_EDE3_CBC, &[]),
            PbeError::Damaged,
        ),
        (
            pbes2_with(&pbkdf2_with(1), DES_EDE3_CBC, &[0; 7]),
            PbeError::Damaged,
        ),
        (
            pbes2_with(&pbkdf2_with(1), AES_256_CBC, &[]),
            PbeError::Damaged,
        ),
        (
            pbes2_with(&pbkdf2_with(1), CAMELLIA_128_CBC, &[0; 17]),
            PbeError::Damaged,
        ),
        (
            pbes2_with(&scrypt_with(0, 8, 1), AES_256_CBC, &[0; 16]),
            PbeError::Damaged,
        ),
        (
            pbes2_with(&scrypt_with(1, 8, 1), AES_256_CBC, &[0; 16]),
            PbeError::Damaged,
        ),
        (
            pbes2_with(&scrypt_with(3, 8, 1), AES_256_CBC, &[0; 16]),
            PbeError::Damaged,
        ),
        (
            pbes2_with(&scrypt_with(16, 0, 1), AES_256_CBC, &[0; 16]),
            PbeError::Damaged,
        ),
        (
            pbes2_with(&scrypt_with(16, 8, 0), AES_256_CBC, &[0; 16]),
            PbeError::Damaged,
        ),
        (algorithm(PBES2, &[]), PbeError::Damaged),
        (algorithm(PBE_3DES, &[]), PbeError::Damaged),
        (der(SEQUENCE, &[]), PbeError::Damaged),
        (
            pbes2_with(
                &pbkdf2_with(1),
                b"\x2a\x86\x48\x86\xf7\x0d\x03\x02",
                &[0; 8],
            ),
            PbeError::Unsupported("RC2"),
        ),
        (
            algorithm(b"\x2a\x86\x48\x86\xf7\x0d\x01\x05\x03", &[]),
            PbeError::Unsupported("MD5 and DES"),
        ),
        (
            algorithm(b"\x2a", &[]),
            PbeError::Unsupported("an unknown algorithm"),
        ),
    ] {
        assert_eq!(outcome(&algorithm), Err(expected), "{algorithm:x?}");
    }
}

/// Truncated in every place, and with every byte changed.
#[test]
fn mutations_never_panic() {
    for whole in [
        pbes2_with(&pbkdf2_with(1), AES_256_CBC, &[0; 16]),
        pbes2_with(&scrypt_with(2, 1, 1), DES_EDE3_CBC, &[0; 8]),
        algorithm(
            PBE_RC2_128,
            &der(SEQUENCE, &[&der(0x04, &[&[7; 8]]), &number(1)]),
        ),
    ] {
        for at in 0..whole.len() {
            for byte in [0, 1, 0x7f, 0x80, 0xff] {
                let mut changed = whole.clone();
                changed[at] = byte;
                if let Some(element) = Reader::new(&changed).element() {
                    let mut work = Work {
                        iterations: 1000,
                        blocks: 1000,
                    };
                    let password = Password::new(b"x");
                    let _ = decrypt(&element, &[0; 16], &password, &mut work);
                }
            }
        }
    }
}
