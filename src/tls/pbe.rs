//! Password-based encryption: PBES2 (RFC 8018) and the schemes of PKCS#12 (RFC 7292 appendix C), and
//! the MAC of a PKCS#12 file (RFC 7292 section 4, RFC 9579).
//!
//! The parameters come from the file. They are read before the work is done: a file that asks for
//! 2^31 iterations, or for a terabyte of memory, would stop the reload of every other binding.

use std::num::NonZeroU32;

use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, Algorithm as Aes, DecryptionContext, PaddedBlockDecryptingKey,
    UnboundCipherKey,
};
use aws_lc_rs::{digest, hmac, iv, pbkdf2};
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockCipherDecrypt, BlockModeDecrypt, KeyInit, KeyIvInit};
use zeroize::Zeroizing;

use super::ber::{Element, INTEGER, OBJECT_IDENTIFIER, Reader, SEQUENCE};

/// Why something is not decrypted or verified.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PbeError {
    /// The password is wrong, or there must be one.
    WrongPassword,
    /// The structure makes no sense.
    Damaged,
    /// This algorithm is not supported.
    Unsupported(&'static str),
    /// The parameters ask for more work than is done.
    TooMuchWork,
}

/// How much work may yet be done for a file.
pub struct Work {
    iterations: u64,
    blocks: u64,
}

/// A password, as the bytes of its file. `None`: that of PKCS#12 files made without one, which is
/// not an empty one.
pub struct Password<'p>(Option<&'p [u8]>);

impl Default for Work {
    fn default() -> Self {
        Self {
            // A PKCS#12 file with a key and a certificate has three derivations, of keys that take
            // two hashes each where the hash is SHA-1.
            iterations: 6 * MOST_ITERATIONS,
            blocks: MOST_SCRYPT_BLOCKS,
        }
    }
}

impl Work {
    /// Accounts for a derivation with this many iterations
    /// for each of the hashes that a key of `size` bytes consists of.
    fn iterate(
        &mut self,
        iterations: u64,
        hash: Hash,
        size: usize,
    ) -> Result<NonZeroU32, PbeError> {
        let hashes = size.div_ceil(hash.digest().output_len()).max(1);
        let hashes = u64::try_from(hashes).map_err(|_| PbeError::TooMuchWork)?;
        let all = iterations.saturating_mul(hashes);
        if iterations > MOST_ITERATIONS || all > self.iterations {
            return Err(PbeError::TooMuchWork);
        }
        self.iterations -= all;
        let iterations = u32::try_from(iterations).map_err(|_| PbeError::TooMuchWork)?;
        NonZeroU32::new(iterations).ok_or(PbeError::Damaged)
    }

    /// Accounts for a derivation by scrypt (RFC 7914).
    fn mix(&mut self, n: u64, r: u64, p: u64) -> Result<(), PbeError> {
        let product = |factors: &[u64]| {
            let product = factors
                .iter()
                .try_fold(1u64, |sum, factor| sum.checked_mul(*factor));
            product.ok_or(PbeError::TooMuchWork)
        };
        let blocks = product(&[n, r, p])?;
        let memory = product(&[128, r, n])?.max(product(&[128, r, p])?);
        if memory > MOST_MEMORY || blocks > self.blocks {
            return Err(PbeError::TooMuchWork);
        }
        self.blocks -= blocks;
        Ok(())
    }
}

impl<'p> Password<'p> {
    /// The password with these bytes.
    pub fn new(bytes: &'p [u8]) -> Self {
        Self(Some(bytes))
    }

    /// No password at all.
    pub fn none() -> Self {
        Self(None)
    }

    fn bytes(&self) -> &'p [u8] {
        self.0.unwrap_or_default()
    }

    /// As UTF-16 with a terminator, which the schemes of PKCS#12 take (RFC 7292 appendix B.1). What is
    /// not UTF-8 is taken for ISO 8859-1, as OpenSSL does.
    fn utf16(&self) -> Zeroizing<Vec<u8>> {
        let Some(bytes) = self.0 else {
            return Zeroizing::default();
        };
        // As long as it can get, so that it is never moved.
        let mut wide = Zeroizing::new(Vec::with_capacity(2 * bytes.len() + 2));
        match str::from_utf8(bytes) {
            Ok(text) => text
                .encode_utf16()
                .for_each(|unit| wide.extend(unit.to_be_bytes())),
            Err(_) => bytes.iter().for_each(|byte| wide.extend([0, *byte])),
        }
        wide.extend([0, 0]);
        wide
    }
}

/// Decrypts `data` as `algorithm`, an AlgorithmIdentifier, says.
pub fn decrypt(
    algorithm: &Element<'_>,
    data: &[u8],
    password: &Password<'_>,
    work: &mut Work,
) -> Result<Zeroizing<Vec<u8>>, PbeError> {
    let (scheme, parameters) = identifier(algorithm)?;
    if scheme == PBES2 {
        return pbes2(parameters?, data, password, work);
    }
    let (size, rc2) = match scheme {
        PBE_3DES => (24, false),
        PBE_2DES => (16, false),
        PBE_RC2_128 => (16, true),
        PBE_RC2_40 => (5, true),
        other => return Err(PbeError::Unsupported(name(other))),
    };
    let mut parameters = parameters?.reader();
    let salt = parameters.element().ok_or(PbeError::Damaged)?;
    let salt = salt.octets().ok_or(PbeError::Damaged)?;
    let iterations = integer(&mut parameters)?;
    let password = password.utf16();
    let mut derive = |purpose, length| {
        let rounds = work.iterate(iterations, Hash::Sha1, length)?;
        Ok(pkcs12_kdf(
            Hash::Sha1.digest(),
            &password,
            &salt,
            purpose,
            rounds,
            length,
        ))
    };
    let mut key = derive(Purpose::Key, size)?;
    let iv = derive(Purpose::Iv, 8)?;
    if rc2 {
        return cbc::<rc2::Rc2>(&key, &iv, data);
    }
    if size == 16 {
        // Two keys: the third is the first again.
        key.reserve_exact(8);
        key.extend_from_within(..8);
    }
    cbc::<des::TdesEde3>(&key, &iv, data)
}

/// PBES2: a key derivation function, then a cipher (RFC 8018 section 6.2).
fn pbes2(
    parameters: Element<'_>,
    data: &[u8],
    password: &Password<'_>,
    work: &mut Work,
) -> Result<Zeroizing<Vec<u8>>, PbeError> {
    let mut parameters = parameters.reader();
    let derivation = parameters.tagged(SEQUENCE).ok_or(PbeError::Damaged)?;
    let cipher = parameters.tagged(SEQUENCE).ok_or(PbeError::Damaged)?;
    let (cipher, iv) = identifier(&cipher)?;
    let size = match cipher {
        AES_128_CBC | CAMELLIA_128_CBC => 16,
        AES_192_CBC | CAMELLIA_192_CBC | DES_EDE3_CBC => 24,
        AES_256_CBC | CAMELLIA_256_CBC => 32,
        other => return Err(PbeError::Unsupported(name(other))),
    };
    let iv = iv?.octets().ok_or(PbeError::Damaged)?;
    let key = derive(&derivation, size, password, work)?;
    match cipher {
        AES_128_CBC => aes(&AES_128, &key, &iv, data),
        AES_192_CBC => aes(&AES_192, &key, &iv, data),
        AES_256_CBC => aes(&AES_256, &key, &iv, data),
        CAMELLIA_128_CBC => cbc::<camellia::Camellia128>(&key, &iv, data),
        CAMELLIA_192_CBC => cbc::<camellia::Camellia192>(&key, &iv, data),
        CAMELLIA_256_CBC => cbc::<camellia::Camellia256>(&key, &iv, data),
        _ => cbc::<des::TdesEde3>(&key, &iv, data),
    }
}

/// Derives a key of `size` bytes with PBKDF2 or scrypt.
fn derive(
    derivation: &Element<'_>,
    size: usize,
    password: &Password<'_>,
    work: &mut Work,
) -> Result<Zeroizing<Vec<u8>>, PbeError> {
    let (function, parameters) = identifier(derivation)?;
    let mut parameters = parameters?.reader();
    let salt = parameters.element().ok_or(PbeError::Damaged)?;
    let salt = salt.octets().ok_or(PbeError::Damaged)?;
    let mut key = Zeroizing::new(vec![0; size]);
    match function {
        // BouncyCastle before 1.87 wrote the second one into a PBMAC1.
        PBKDF2 | PBES2 => {
            let iterations = integer(&mut parameters)?;
            key_length(&mut parameters, size)?;
            let prf = match parameters.tagged(SEQUENCE) {
                Some(prf) => hash_of(identifier(&prf)?.0)?,
                None => Hash::Sha1,
            };
            let rounds = work.iterate(iterations, prf, size)?;
            prf.pbkdf2(rounds, &salt, password.bytes(), &mut key);
        }
        SCRYPT => {
            let n = integer(&mut parameters)?;
            let r = integer(&mut parameters)?;
            let p = integer(&mut parameters)?;
            key_length(&mut parameters, size)?;
            if !n.is_power_of_two() || n < 2 || r == 0 || p == 0 {
                return Err(PbeError::Damaged);
            }
            work.mix(n, r, p)?;
            let small = |number: u64| u32::try_from(number).map_err(|_| PbeError::TooMuchWork);
            let log_n = u8::try_from(n.trailing_zeros()).map_err(|_| PbeError::TooMuchWork)?;
            let parameters =
                scrypt::Params::new(log_n, small(r)?, small(p)?).map_err(|_| PbeError::Damaged)?;
            scrypt::scrypt(password.bytes(), &salt, &parameters, &mut key)
                .map_err(|_| PbeError::Damaged)?;
        }
        other => return Err(PbeError::Unsupported(name(other))),
    }
    Ok(key)
}

/// Verifies the MAC of a PKCS#12 file: `mac` is its MacData, `data` what it protects.
pub fn verify_mac(
    mac: &Element<'_>,
    data: &[u8],
    password: &Password<'_>,
    work: &mut Work,
) -> Result<(), PbeError> {
    let mut mac = mac.reader();
    let mut info = mac.inside(SEQUENCE).ok_or(PbeError::Damaged)?;
    let algorithm = info.tagged(SEQUENCE).ok_or(PbeError::Damaged)?;
    let expected = info.element().and_then(|digest| digest.octets());
    let expected = expected.ok_or(PbeError::Damaged)?;
    let (scheme, parameters) = identifier(&algorithm)?;
    let (hash, key) = if scheme == PBMAC1 {
        // RFC 9579: the salt and the count beside it mean nothing.
        let mut parameters = parameters?.reader();
        let derivation = parameters.tagged(SEQUENCE).ok_or(PbeError::Damaged)?;
        let hash = parameters.tagged(SEQUENCE).ok_or(PbeError::Damaged)?;
        let hash = hash_of(identifier(&hash)?.0)?;
        let size = required_key_length(&derivation)?;
        (hash, derive(&derivation, size, password, work)?)
    } else {
        let hash = hash_of(scheme)?;
        let salt = mac.element().and_then(|salt| salt.octets());
        let salt = salt.ok_or(PbeError::Damaged)?;
        let iterations = match mac.is_empty() {
            true => 1,
            false => integer(&mut mac)?,
        };
        let size = hash.digest().output_len();
        let rounds = work.iterate(iterations, hash, size)?;
        let password = password.utf16();
        let key = pkcs12_kdf(hash.digest(), &password, &salt, Purpose::Mac, rounds, size);
        (hash, key)
    };
    let key = hmac::Key::new(hash.hmac(), &key);
    hmac::verify(&key, data, &expected).map_err(|_| PbeError::WrongPassword)
}

/// A hash function under HMAC.
#[derive(Clone, Copy)]
enum Hash {
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    fn digest(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha224 => &digest::SHA224,
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        }
    }

    fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha224 => hmac::HMAC_SHA224,
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha384 => hmac::HMAC_SHA384,
            Self::Sha512 => hmac::HMAC_SHA512,
        }
    }

    /// PBKDF2 (RFC 8018 section 5.2).
    fn pbkdf2(self, rounds: NonZeroU32, salt: &[u8], password: &[u8], key: &mut [u8]) {
        let algorithm = match self {
            Self::Sha1 => pbkdf2::PBKDF2_HMAC_SHA1,
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Self::Sha384 => pbkdf2::PBKDF2_HMAC_SHA384,
            Self::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
            // Not among those of the library.
            Self::Sha224 => return self.pbkdf2_by_hand(rounds, salt, password, key),
        };
        pbkdf2::derive(algorithm, rounds, salt, password, key);
    }

    fn pbkdf2_by_hand(self, rounds: NonZeroU32, salt: &[u8], password: &[u8], key: &mut [u8]) {
        let secret = hmac::Key::new(self.hmac(), password);
        let sign = |parts: &[&[u8]]| {
            let mut context = hmac::Context::with_key(&secret);
            parts.iter().for_each(|part| context.update(part));
            context.sign()
        };
        for (number, block) in (1u32..).zip(key.chunks_mut(self.digest().output_len())) {
            let mut tag = sign(&[salt, &number.to_be_bytes()]);
            let mut sum = Zeroizing::new(tag.as_ref().to_vec());
            for _ in 1..rounds.get() {
                tag = sign(&[tag.as_ref()]);
                sum.iter_mut()
                    .zip(tag.as_ref())
                    .for_each(|(sum, byte)| *sum ^= byte);
            }
            let length = block.len();
            block.copy_from_slice(&sum[..length]);
        }
    }
}

/// What a derived key is for (RFC 7292 appendix B.3).
#[derive(Clone, Copy)]
enum Purpose {
    Key = 1,
    Iv = 2,
    Mac = 3,
}

/// Derives `length` bytes as PKCS#12 does (RFC 7292 appendix B.2); the names are those of the RFC.
fn pkcs12_kdf(
    hash: &'static digest::Algorithm,
    password: &[u8],
    salt: &[u8],
    purpose: Purpose,
    rounds: NonZeroU32,
    length: usize,
) -> Zeroizing<Vec<u8>> {
    let v = hash.block_len();
    let diversifier = vec![purpose as u8; v];
    let repeated = |text: &[u8]| {
        let whole = text.len().div_ceil(v) * v;
        let bytes: Vec<u8> = text.iter().copied().cycle().take(whole).collect();
        Zeroizing::new(bytes)
    };
    let mut i = Zeroizing::new([&**repeated(salt), &**repeated(password)].concat());
    let mut key = Zeroizing::new(Vec::with_capacity(length + hash.output_len()));
    loop {
        let mut context = digest::Context::new(hash);
        context.update(&diversifier);
        context.update(&i);
        let mut a = context.finish();
        for _ in 1..rounds.get() {
            a = digest::digest(hash, a.as_ref());
        }
        key.extend_from_slice(a.as_ref());
        if key.len() >= length {
            key.truncate(length);
            return key;
        }
        let b: Vec<u8> = a.as_ref().iter().copied().cycle().take(v).collect();
        for block in i.chunks_mut(v) {
            // block = block + b + 1, modulo 2^v.
            let mut carry = 1u16;
            for (digit, add) in block.iter_mut().zip(&b).rev() {
                carry += u16::from(*digit) + u16::from(*add);
                *digit = carry.to_be_bytes()[1];
                carry >>= 8;
            }
        }
    }
}

fn aes(
    algorithm: &'static Aes,
    key: &[u8],
    iv: &[u8],
    data: &[u8],
) -> Result<Zeroizing<Vec<u8>>, PbeError> {
    let iv = iv::FixedLength::try_from(iv).map_err(|_| PbeError::Damaged)?;
    let mut buffer = Zeroizing::new(data.to_vec());
    let length = UnboundCipherKey::new(algorithm, key)
        .and_then(PaddedBlockDecryptingKey::cbc_pkcs7)
        .and_then(|key| key.decrypt(&mut buffer, DecryptionContext::Iv128(iv)))
        .map_err(|_| PbeError::WrongPassword)?
        .len();
    buffer.truncate(length);
    Ok(buffer)
}

/// Decrypts with a block cipher in CBC mode and the usual padding.
fn cbc<C: BlockCipherDecrypt + KeyInit>(
    key: &[u8],
    iv: &[u8],
    data: &[u8],
) -> Result<Zeroizing<Vec<u8>>, PbeError> {
    let cipher = cbc::Decryptor::<C>::new_from_slices(key, iv).map_err(|_| PbeError::Damaged)?;
    let mut buffer = Zeroizing::new(data.to_vec());
    let length = cipher
        .decrypt_padded::<Pkcs7>(&mut buffer)
        .map_err(|_| PbeError::WrongPassword)?
        .len();
    buffer.truncate(length);
    Ok(buffer)
}

type Oid<'b> = &'b [u8];

/// The object identifier of an AlgorithmIdentifier, and its parameters, if there are any.
fn identifier<'b>(
    algorithm: &Element<'b>,
) -> Result<(Oid<'b>, Result<Element<'b>, PbeError>), PbeError> {
    let mut fields = algorithm.reader();
    let oid = fields.tagged(OBJECT_IDENTIFIER).ok_or(PbeError::Damaged)?;
    Ok((oid.content, fields.element().ok_or(PbeError::Damaged)))
}

fn integer(fields: &mut Reader<'_>) -> Result<u64, PbeError> {
    let element = fields.tagged(INTEGER).ok_or(PbeError::Damaged)?;
    element.unsigned().ok_or(PbeError::Damaged)
}

/// Skips the length of the key, which the cipher decides.
fn key_length(fields: &mut Reader<'_>, size: usize) -> Result<(), PbeError> {
    match fields.tagged(INTEGER).map(|length| length.unsigned()) {
        Some(length) if length != u64::try_from(size).ok() => Err(PbeError::Damaged),
        _ => Ok(()),
    }
}

/// The length that the parameters of PBKDF2 ask for, which PBMAC1 demands.
fn required_key_length(derivation: &Element<'_>) -> Result<usize, PbeError> {
    let (_, parameters) = identifier(derivation)?;
    let mut fields = parameters?.reader();
    let _salt = fields.element();
    let _iterations = fields.element();
    let length = usize::try_from(integer(&mut fields)?).map_err(|_| PbeError::Damaged)?;
    match length {
        // The least is that of RFC 9579 section 9; BouncyCastle writes bits for bytes: 256.
        20..=1024 => Ok(length),
        _ => Err(PbeError::Damaged),
    }
}

fn hash_of(oid: Oid<'_>) -> Result<Hash, PbeError> {
    Ok(match oid {
        HMAC_SHA1 | SHA1 => Hash::Sha1,
        HMAC_SHA224 | SHA224 => Hash::Sha224,
        HMAC_SHA256 | SHA256 => Hash::Sha256,
        HMAC_SHA384 | SHA384 => Hash::Sha384,
        HMAC_SHA512 | SHA512 => Hash::Sha512,
        other => return Err(PbeError::Unsupported(name(other))),
    })
}

/// What an algorithm that is not supported is called. What begins with these bytes is the algorithm,
/// the rest tells its sizes and modes apart.
fn name(oid: Oid<'_>) -> &'static str {
    let known = NAMES.iter().find(|(prefix, _)| oid.starts_with(prefix));
    known.map_or("an unknown algorithm", |(_, name)| *name)
}

/// As many iterations as the JDK allows.
const MOST_ITERATIONS: u64 = 5_000_000;
/// Bytes that scrypt may use; OpenSSL's default needs 16 MiB.
const MOST_MEMORY: u64 = 256 * 1024 * 1024;
/// The product of scrypt's parameters: some four seconds.
const MOST_SCRYPT_BLOCKS: u64 = 1 << 23;

// The contents of object identifiers (X.690 section 8.19).
const PBES2: Oid<'_> = b"\x2a\x86\x48\x86\xf7\x0d\x01\x05\x0d";
const PBKDF2: Oid<'_> = b"\x2a\x86\x48\x86\xf7\x0d\x01\x05\x0c";
const PBMAC1: Oid<'_> = b"\x2a\x86\x48\x86\xf7\x0d\x01\x05\x0e";
const SCRYPT: Oid<'_> = b"\x2b\x06\x01\x04\x01\xda\x47\x04\x0b";
const PBE_3DES: Oid<'_> = b"\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x01\x03";
const PBE_2DES: Oid<'_> = b"\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x01\x04";
const PBE_RC2_128: Oid<'_> = b"\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x01\x05";
const PBE_RC2_40: Oid<'_> = b"\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x01\x06";
const AES_128_CBC: Oid<'_> = b"\x60\x86\x48\x01\x65\x03\x04\x01\x02";
const AES_192_CBC: Oid<'_> = b"\x60\x86\x48\x01\x65\x03\x04\x01\x16";
const AES_256_CBC: Oid<'_> = b"\x60\x86\x48\x01\x65\x03\x04\x01\x2a";
const CAMELLIA_128_CBC: Oid<'_> = b"\x2a\x83\x08\x8c\x9a\x4b\x3d\x01\x01\x01\x02";
const CAMELLIA_192_CBC: Oid<'_> = b"\x2a\x83\x08\x8c\x9a\x4b\x3d\x01\x01\x01\x03";
const CAMELLIA_256_CBC: Oid<'_> = b"\x2a\x83\x08\x8c\x9a\x4b\x3d\x01\x01\x01\x04";
const DES_EDE3_CBC: Oid<'_> = b"\x2a\x86\x48\x86\xf7\x0d\x03\x07";
const HMAC_SHA1: Oid<'_> = b"\x2a\x86\x48\x86\xf7\x0d\x02\x07";
const HMAC_SHA224: Oid<'_> = b"\x2a\x86\x48\x86\xf7\x0d\x02\x08";
const HMAC_SHA256: Oid<'_> = b"\x2a\x86\x48\x86\xf7\x0d\x02\x09";
const HMAC_SHA384: Oid<'_> = b"\x2a\x86\x48\x86\xf7\x0d\x02\x0a";
const HMAC_SHA512: Oid<'_> = b"\x2a\x86\x48\x86\xf7\x0d\x02\x0b";
const SHA1: Oid<'_> = b"\x2b\x0e\x03\x02\x1a";
const SHA256: Oid<'_> = b"\x60\x86\x48\x01\x65\x03\x04\x02\x01";
const SHA384: Oid<'_> = b"\x60\x86\x48\x01\x65\x03\x04\x02\x02";
const SHA512: Oid<'_> = b"\x60\x86\x48\x01\x65\x03\x04\x02\x03";
const SHA224: Oid<'_> = b"\x60\x86\x48\x01\x65\x03\x04\x02\x04";

const NAMES: &[(&[u8], &str)] = &[
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x05\x01", "MD2 and DES"),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x05\x04", "MD2 and RC2"),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x05\x03", "MD5 and DES"),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x05\x06", "MD5 and RC2"),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x05\x0a", "SHA-1 and DES"),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x05\x0b", "SHA-1 and RC2"),
    (b"\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x01", "RC4"),
    (b"\x2a\x86\x48\x86\xf7\x0d\x03\x02", "RC2"),
    (b"\x2a\x86\x48\x86\xf7\x0d\x03\x04", "RC4"),
    (b"\x2a\x86\x48\x86\xf7\x0d\x03\x09", "RC5"),
    (b"\x2b\x0e\x03\x02\x07", "DES"),
    (b"\x2a\x86\x48\x86\xf6\x7d\x07\x42\x0a", "CAST5"),
    (b"\x2b\x06\x01\x04\x01\x97\x55\x01\x02", "Blowfish"),
    (b"\x2b\x06\x01\x04\x01\x81\x3c\x07\x01\x01", "IDEA"),
    (b"\x2a\x83\x1a\x8c\x9a\x44\x01", "SEED"),
    (b"\x2a\x83\x1a\x8c\x9a\x6e\x01", "ARIA"),
    (
        b"\x2a\x83\x08\x8c\x9a\x4b\x3d",
        "a mode of Camellia other than CBC",
    ),
    (b"\x2a\x81\x1c\xcf\x55\x01\x68", "SM4"),
    (b"\x2a\x81\x1c\xcf\x55\x01\x83", "SM3"),
    (
        b"\x60\x86\x48\x01\x65\x03\x04\x01",
        "a mode of AES other than CBC",
    ),
    (
        b"\x60\x86\x48\x01\x65\x03\x04\x02",
        "a hash function other than SHA-1 and SHA-2",
    ),
    (b"\x2a\x86\x48\x86\xf7\x0d\x02\x05", "MD5"),
    (b"\x2a\x86\x48\x86\xf7\x0d\x02", "an unknown hash function"),
    (b"\x2a\x85\x03", "GOST"),
];

#[cfg(test)]
mod tests;
