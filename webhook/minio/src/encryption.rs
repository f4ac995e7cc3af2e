//! How MinIO encrypts the bodies of its admin API, with a key that both sides derive from the requester's secret key.
//!
//! A message is a salt of 32 bytes, one byte for the algorithm, a nonce of 8 bytes, and then fragments of 16 KiB and a tag each. The last fragment is
//! marked as such, so that none can be cut off. Read from `encrypt.go` of github.com/minio/madmin-go (v3.0.109) and github.com/secure-io/sio-go
//! (v0.3.1).

use argon2::{Algorithm, Argon2, Params, Version};
use ring::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::pbkdf2;
use ring::rand::{SecureRandom, SystemRandom};

const SALT: usize = 32;
const STREAM_NONCE: usize = 8;
const HEADER: usize = SALT + 1 + STREAM_NONCE;
const TAG: usize = 16;
const FRAGMENT: usize = 16 * 1024;

const MIDDLE: u8 = 0x00;
const LAST: u8 = 0x80;

const ARGON2_KIB: u32 = 64 * 1024;
const ARGON2_PASSES: u32 = 1;
const ARGON2_LANES: u32 = 4;
const PBKDF2_ROUNDS: std::num::NonZeroU32 = std::num::NonZeroU32::new(8192).expect("not zero");

/// The byte behind the salt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Argon2Aes = 0,
    Argon2ChaCha = 1,
    /// Of a MinIO in FIPS mode.
    Pbkdf2Aes = 2,
}

impl Scheme {
    fn of(byte: u8) -> Option<Self> {
        [Self::Argon2Aes, Self::Argon2ChaCha, Self::Pbkdf2Aes]
            .into_iter()
            .find(|scheme| *scheme as u8 == byte)
    }

    fn key(self, secret: &[u8], salt: &[u8]) -> Result<LessSafeKey, Failed> {
        let mut key = [0; 32];
        match self {
            Self::Argon2Aes | Self::Argon2ChaCha => {
                let costs =
                    Params::new(ARGON2_KIB, ARGON2_PASSES, ARGON2_LANES, Some(key.len())).map_err(|_| Failed)?;
                Argon2::new(Algorithm::Argon2id, Version::V0x13, costs)
                    .hash_password_into(secret, salt, &mut key)
                    .map_err(|_| Failed)?;
            }
            Self::Pbkdf2Aes => pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, PBKDF2_ROUNDS, salt, secret, &mut key),
        }
        let cipher = match self {
            Self::Argon2Aes | Self::Pbkdf2Aes => &AES_256_GCM,
            Self::Argon2ChaCha => &CHACHA20_POLY1305,
        };
        UnboundKey::new(cipher, &key).map(LessSafeKey::new).map_err(|_| Failed)
    }
}

/// The message can't be read: another key, a change on the way, or none of these messages at all.
#[derive(Debug, PartialEq, Eq)]
pub struct Failed;

/// Encrypts a message, as the admin API wants the bodies of most calls: by the secret of the key that signs the request. Takes 64 MiB and some ten
/// milliseconds.
///
/// # Errors
/// Where the machine has no randomness, or not that much memory.
pub fn encrypt(secret: &str, message: &[u8]) -> Result<Vec<u8>, Failed> {
    encrypt_as(Scheme::Argon2Aes, secret, message)
}

fn encrypt_as(scheme: Scheme, secret: &str, message: &[u8]) -> Result<Vec<u8>, Failed> {
    let random = SystemRandom::new();
    let (mut salt, mut nonce) = ([0; SALT], [0; STREAM_NONCE]);
    random.fill(&mut salt).map_err(|_| Failed)?;
    random.fill(&mut nonce).map_err(|_| Failed)?;
    let mut stream = Stream::new(scheme.key(secret.as_bytes(), &salt)?, nonce)?;
    let mut encrypted = Vec::with_capacity(HEADER + message.len() + (message.len() / FRAGMENT + 1) * TAG);
    encrypted.extend_from_slice(&salt);
    encrypted.push(scheme as u8);
    encrypted.extend_from_slice(&nonce);
    let mut left = message;
    loop {
        // A message of no bytes has one fragment too.
        let (fragment, rest) = left.split_at(left.len().min(FRAGMENT));
        let begin = encrypted.len();
        encrypted.extend_from_slice(fragment);
        let (nonce, label) = stream.next(rest.is_empty())?;
        let tag = stream
            .key
            .seal_in_place_separate_tag(nonce, label, &mut encrypted[begin..])
            .map_err(|_| Failed)?;
        encrypted.extend_from_slice(tag.as_ref());
        if rest.is_empty() {
            return Ok(encrypted);
        }
        left = rest;
    }
}

/// Decrypts a message. Takes 64 MiB and some ten milliseconds.
pub(crate) fn decrypt(secret: &str, encrypted: &[u8]) -> Result<Vec<u8>, Failed> {
    let (header, mut left) = encrypted.split_at_checked(HEADER).ok_or(Failed)?;
    let (salt, header) = header.split_at(SALT);
    let scheme = Scheme::of(header[0]).ok_or(Failed)?;
    let nonce = header[1..].try_into().map_err(|_| Failed)?;
    let mut stream = Stream::new(scheme.key(secret.as_bytes(), salt)?, nonce)?;
    let mut message = Vec::with_capacity(left.len());
    loop {
        let (fragment, rest) = left.split_at(left.len().min(FRAGMENT + TAG));
        let mut fragment = fragment.to_vec();
        let (nonce, label) = stream.next(rest.is_empty())?;
        let plain = stream
            .key
            .open_in_place(nonce, label, &mut fragment)
            .map_err(|_| Failed)?;
        message.extend_from_slice(plain);
        if rest.is_empty() {
            return Ok(message);
        }
        left = rest;
    }
}

/// What the fragments of a message are bound together by: a nonce that counts them, and a label that each carries.
struct Stream {
    key: LessSafeKey,
    nonce: [u8; STREAM_NONCE],
    /// The tag of nothing under number 0, behind the mark.
    label: [u8; 1 + TAG],
    number: u32,
}

impl Stream {
    fn new(key: LessSafeKey, nonce: [u8; STREAM_NONCE]) -> Result<Self, Failed> {
        let mut label = [0; 1 + TAG];
        let tag = key
            .seal_in_place_separate_tag(numbered(nonce, 0), Aad::empty(), &mut [])
            .map_err(|_| Failed)?;
        label[1..].copy_from_slice(tag.as_ref());
        Ok(Self {
            key,
            nonce,
            label,
            number: 0,
        })
    }

    fn next(&mut self, last: bool) -> Result<(Nonce, Aad<[u8; 1 + TAG]>), Failed> {
        self.number = self.number.checked_add(1).ok_or(Failed)?;
        self.label[0] = if last { LAST } else { MIDDLE };
        Ok((numbered(self.nonce, self.number), Aad::from(self.label)))
    }
}

fn numbered(nonce: [u8; STREAM_NONCE], number: u32) -> Nonce {
    let mut whole = [0; NONCE_LEN];
    whole[..STREAM_NONCE].copy_from_slice(&nonce);
    whole[STREAM_NONCE..].copy_from_slice(&number.to_le_bytes());
    Nonce::assume_unique_for_key(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "minioadmin";

    /// The lengths at which the number of fragments changes.
    fn lengths() -> [usize; 7] {
        [
            0,
            1,
            FRAGMENT - 1,
            FRAGMENT,
            FRAGMENT + 1,
            2 * FRAGMENT,
            2 * FRAGMENT + 1,
        ]
    }

    fn message(length: usize) -> Vec<u8> {
        (0..251).cycle().take(length).collect()
    }

    #[test]
    fn a_message_of_any_length_comes_back_whole() {
        for length in lengths() {
            let encrypted = encrypt_as(Scheme::Pbkdf2Aes, SECRET, &message(length)).expect("encrypted");
            let fragments = length.div_ceil(FRAGMENT).max(1);
            assert_eq!(encrypted.len(), HEADER + length + fragments * TAG, "{length}");
            assert_eq!(decrypt(SECRET, &encrypted), Ok(message(length)), "{length}");
        }
    }

    #[test]
    fn a_message_comes_back_whole_in_the_schemes_that_take_long() {
        for scheme in [Scheme::Argon2Aes, Scheme::Argon2ChaCha] {
            let encrypted = encrypt_as(scheme, SECRET, &message(FRAGMENT + 1)).expect("encrypted");
            assert_eq!(encrypted[SALT], scheme as u8);
            assert_eq!(decrypt(SECRET, &encrypted), Ok(message(FRAGMENT + 1)), "{scheme:?}");
        }
    }

    /// What MinIO (github.com/minio/minio at 7aac2a2c5b7c) answered to `info-service-account`, its root password being `minioadmin`.
    #[test]
    fn an_answer_of_a_real_minio_is_read() {
        let message = decrypt(SECRET, include_bytes!("../tests/info-service-account.bin")).expect("decrypted");
        let info: serde_json::Value = serde_json::from_slice(&message).expect("JSON");
        assert_eq!(info["parentUser"], "minioadmin");
        assert_eq!(info["description"], "models of namespace team-a");
        assert!(
            info["policy"]
                .as_str()
                .expect("a policy")
                .contains("arn:aws:s3:::models/team-a/iris*")
        );
    }

    #[test]
    fn two_messages_share_neither_salt_nor_nonce() {
        let [a, b] = [(); 2].map(|()| encrypt(SECRET, b"same").expect("encrypted"));
        assert_ne!(a[..SALT], b[..SALT]);
        assert_ne!(a[SALT + 1..HEADER], b[SALT + 1..HEADER]);
    }

    #[test]
    fn another_secret_reads_nothing() {
        let encrypted = encrypt(SECRET, b"message").expect("encrypted");
        assert_eq!(decrypt("minioadmin2", &encrypted), Err(Failed));
    }

    #[test]
    fn a_changed_byte_anywhere_is_noticed() {
        let encrypted = encrypt_as(Scheme::Pbkdf2Aes, SECRET, &message(FRAGMENT + 1)).expect("encrypted");
        for at in [
            0,
            SALT - 1,
            SALT,
            SALT + 1,
            HEADER - 1,
            HEADER,
            HEADER + FRAGMENT,
            HEADER + FRAGMENT + TAG,
            encrypted.len() - 1,
        ] {
            let mut changed = encrypted.clone();
            changed[at] ^= 0x04;
            assert_eq!(decrypt(SECRET, &changed), Err(Failed), "byte {at}");
        }
    }

    #[test]
    fn fragments_can_be_neither_cut_off_nor_swapped_nor_added() {
        let encrypted = encrypt_as(Scheme::Pbkdf2Aes, SECRET, &message(3 * FRAGMENT)).expect("encrypted");
        let (header, fragments) = encrypted.split_at(HEADER);
        let [a, b, c] = [0, 1, 2].map(|at| &fragments[at * (FRAGMENT + TAG)..(at + 1) * (FRAGMENT + TAG)]);
        assert_eq!(decrypt(SECRET, &[header, a, b, c].concat()), Ok(message(3 * FRAGMENT)));
        for wrong in [
            vec![header],
            vec![header, a],
            vec![header, a, b],
            vec![header, b, a, c],
            vec![header, a, b, c, c],
        ] {
            assert_eq!(decrypt(SECRET, &wrong.concat()), Err(Failed));
        }
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let mut unknown = encrypt_as(Scheme::Pbkdf2Aes, SECRET, b"").expect("encrypted");
        unknown[SALT] = 3;
        for wrong in [&b""[..], b"<html></html>", &[0; HEADER - 1], &[0; HEADER], &unknown] {
            assert_eq!(decrypt(SECRET, wrong), Err(Failed));
        }
    }
}
