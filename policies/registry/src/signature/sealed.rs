//! Private keys as cosign keeps them: JSON with `NaCl`'s secretbox (`XSalsa20` and Poly1305) whose key scrypt makes of a password. The form is that of
//! secure-systems-lab/go-securesystemslib, package `encrypted`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto_secretbox::XSalsa20Poly1305;
use crypto_secretbox::aead::{Aead, KeyInit};
use serde::Deserialize;

#[derive(Deserialize)]
struct Sealed {
    kdf: Kdf,
    cipher: Cipher,
    ciphertext: String,
}

#[derive(Deserialize)]
struct Kdf {
    name: String,
    params: Params,
    salt: String,
}

#[derive(Deserialize)]
struct Params {
    #[serde(rename = "N")]
    n: u64,
    r: u32,
    p: u32,
}

#[derive(Deserialize)]
struct Cipher {
    name: String,
    nonce: String,
}

/// The costs that cosign uses, or used: 2 to this power. Any other would let a file decide how much memory is taken.
const COSTS: [u8; 3] = [15, 16, 17];

pub(super) fn open(json: &[u8], password: &str) -> Result<Vec<u8>, &'static str> {
    let sealed: Sealed = serde_json::from_slice(json).map_err(|_| "its content isn't what cosign writes")?;
    if sealed.kdf.name != "scrypt" || sealed.cipher.name != "nacl/secretbox" {
        return Err("it is sealed in a way that cosign doesn't");
    }
    let Params { n, r, p } = sealed.kdf.params;
    let cost = COSTS.into_iter().find(|cost| 1 << cost == n);
    let cost = cost
        .filter(|_| (r, p) == (8, 1))
        .ok_or("its costs of scrypt are none of cosign's")?;
    let decode = |text: &str| {
        STANDARD
            .decode(text)
            .map_err(|_| "its content isn't what cosign writes")
    };
    let (salt, nonce, ciphertext) = (
        decode(&sealed.kdf.salt)?,
        decode(&sealed.cipher.nonce)?,
        decode(&sealed.ciphertext)?,
    );
    let nonce: [u8; 24] = nonce.try_into().map_err(|_| "its content isn't what cosign writes")?;
    let params = scrypt::Params::new(cost, r, p).map_err(|_| "its costs of scrypt are none of cosign's")?;
    let mut key = [0; 32];
    scrypt::scrypt(password.as_bytes(), &salt, &params, &mut key)
        .map_err(|_| "its content isn't what cosign writes")?;
    XSalsa20Poly1305::new(&key.into())
        .decrypt(&nonce.into(), ciphertext.as_slice())
        .map_err(|_| "the password doesn't open it")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By `COSIGN_PASSWORD=tide cosign generate-key-pair` of cosign 3.1.3, without its PEM armour.
    const COSIGN: &[u8] = include_bytes!("testdata/cosign.key.json");

    #[test]
    fn a_key_of_cosigns_is_opened_by_its_password_alone() {
        assert!(open(COSIGN, "tide").unwrap().starts_with(&[0x30]));
        assert_eq!(open(COSIGN, "ebb"), Err("the password doesn't open it"));
    }

    #[test]
    fn a_file_does_not_decide_how_much_memory_is_taken() {
        let greedy = String::from_utf8(COSIGN.to_vec())
            .unwrap()
            .replace("65536", "1073741824");
        assert_eq!(
            open(greedy.as_bytes(), "tide"),
            Err("its costs of scrypt are none of cosign's")
        );
        assert!(open(b"{}", "tide").is_err());
    }
}
