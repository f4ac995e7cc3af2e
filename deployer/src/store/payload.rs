//! The digest of what a request carries, where it is known already. S3's signature holds the SHA-256 of a body, and a model's files are read for theirs before
//! anything is sent: none is hashed twice, and a store that checks the signature refuses a file that is another by the time it is sent.

use bytes::Bytes;
use object_store::Result;
use object_store::client::{CryptoProvider, DigestAlgorithm, DigestContext, HmacContext, Signer, SigningAlgorithm};
use ring::{digest, hmac};

/// SHA-256 of some bytes.
pub(crate) type Sha256 = [u8; 32];

tokio::task_local! {
    /// What the requests of this task carry, and its digest.
    static CARRIED: (Bytes, Sha256);
}

/// Sends a request that carries this content, whose digest is known.
pub(crate) async fn with_digest<T>(content: Bytes, sha256: Sha256, send: impl Future<Output = T>) -> T {
    CARRIED.scope((content, sha256), send).await
}

/// Of some bytes.
pub(crate) fn sha256(bytes: &[u8]) -> Sha256 {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(bytes);
    finished(context)
}

/// Of all that a [`digest::SHA256`] has seen.
pub(crate) fn finished(context: digest::Context) -> Sha256 {
    let mut sha256 = Sha256::default();
    sha256.copy_from_slice(context.finish().as_ref());
    sha256
}

/// What signs requests to S3: ring, but for the digests that are known.
#[derive(Debug)]
pub(super) struct Crypto;

impl CryptoProvider for Crypto {
    fn digest(&self, algorithm: DigestAlgorithm) -> Result<Box<dyn DigestContext>> {
        check(&algorithm)?;
        Ok(Box::new(Digest {
            carried: CARRIED.try_with(Clone::clone).ok(),
            seen: 0,
            context: digest::Context::new(&digest::SHA256),
            sha256: Sha256::default(),
        }))
    }

    fn hmac(&self, algorithm: DigestAlgorithm, secret: &[u8]) -> Result<Box<dyn HmacContext>> {
        check(&algorithm)?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        Ok(Box::new(Hmac {
            context: hmac::Context::with_key(&key),
            tag: Sha256::default(),
        }))
    }

    /// Google's way, and not S3's.
    fn sign(&self, _: SigningAlgorithm, _: &[u8]) -> Result<Box<dyn Signer>> {
        Err(unsupported("a signature by a key pair"))
    }
}

fn check(algorithm: &DigestAlgorithm) -> Result<()> {
    match algorithm {
        DigestAlgorithm::Sha256 => Ok(()),
        other => Err(unsupported(&format!("{other:?}"))),
    }
}

fn unsupported(what: &str) -> object_store::Error {
    object_store::Error::NotSupported {
        source: format!("{what} for S3").into(),
    }
}

/// A digest that is nothing but compared as long as what comes are the bytes whose digest is known, the same ones in memory.
struct Digest {
    carried: Option<(Bytes, Sha256)>,
    /// So many bytes of it have come.
    seen: usize,
    context: digest::Context,
    sha256: Sha256,
}

impl Digest {
    /// Something else: what was only compared so far is read after all.
    fn read_what_was_seen(&mut self) {
        if let Some((content, _)) = self.carried.take() {
            self.context.update(&content[..self.seen]);
        }
    }
}

impl DigestContext for Digest {
    fn update(&mut self, data: &[u8]) {
        let next = self.carried.as_ref().and_then(|(content, _)| content.get(self.seen..));
        if next.is_some_and(|next| next.len() >= data.len() && next.as_ptr() == data.as_ptr()) {
            self.seen += data.len();
            return;
        }
        self.read_what_was_seen();
        self.context.update(data);
    }

    fn finish(&mut self) -> Result<&[u8]> {
        self.sha256 = match &self.carried {
            Some((content, sha256)) if content.len() == self.seen => *sha256,
            _ => {
                self.read_what_was_seen();
                finished(self.context.clone())
            }
        };
        Ok(&self.sha256)
    }
}

struct Hmac {
    context: hmac::Context,
    tag: Sha256,
}

impl HmacContext for Hmac {
    fn update(&mut self, data: &[u8]) {
        self.context.update(data);
    }

    fn finish(&mut self) -> Result<&[u8]> {
        self.tag.copy_from_slice(self.context.clone().sign().as_ref());
        Ok(&self.tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A digest that no content has.
    const TOLD: Sha256 = [7; 32];

    fn digest_of(pieces: &[&[u8]]) -> Sha256 {
        let mut context = Crypto.digest(DigestAlgorithm::Sha256).unwrap();
        for piece in pieces {
            context.update(piece);
        }
        context.finish().unwrap().try_into().unwrap()
    }

    #[tokio::test]
    async fn what_is_carried_has_the_digest_that_is_told_and_all_else_its_own() {
        let content = Bytes::from_static(b"0123456789");
        let elsewhere = content.to_vec();
        with_digest(content.clone(), TOLD, async {
            assert_eq!(digest_of(&[&content]), TOLD);
            assert_eq!(digest_of(&[&content[..4], &content[4..]]), TOLD);
            // Equal bytes that lie elsewhere, a part of it, more than it, its pieces in another order, nothing.
            assert_eq!(digest_of(&[&elsewhere]), sha256(b"0123456789"));
            assert_eq!(digest_of(&[&content[..4]]), sha256(b"0123"));
            assert_eq!(digest_of(&[&content, b"x"]), sha256(b"0123456789x"));
            assert_eq!(digest_of(&[&content[..4], b"x", &content[5..]]), sha256(b"0123x56789"));
            assert_eq!(digest_of(&[&content[4..], &content[..4]]), sha256(b"4567890123"));
            assert_eq!(digest_of(&[]), sha256(b""));
        })
        .await;
        assert_eq!(digest_of(&[&content]), sha256(b"0123456789"));
    }

    #[test]
    fn an_hmac_is_that_of_rfc_4231() {
        let mut context = Crypto.hmac(DigestAlgorithm::Sha256, b"Jefe").unwrap();
        context.update(b"what do ya want ");
        context.update(b"for nothing?");
        let tag: String = context
            .finish()
            .unwrap()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(tag, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }
}
