//! The key file: 32 secret bytes in hexadecimal, readable by their owner only, never printed.
//!
//! systemd (`LoadCredential`) and Kubernetes (a secret with `fsGroup`) hand a key over as a file of
//! root's that the group of the service may read. Such a file is accepted, as PostgreSQL accepts its
//! server's key.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use kith_consensus::PeerId;
use kith_gossip::Authenticator;
use nix::unistd::Uid;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Name of the key file in a peer's folder.
pub const KEY_FILE: &str = "identity.key";

/// Hexadecimal digits of a key.
const KEY_DIGITS: usize = 64;

/// An ed25519 secret. Overwritten when dropped; shown only as the peer id that follows from it.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Identity {
    secret: [u8; 32],
}

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file cannot be read or written.
    #[error("cannot {act} the key file {}: {source}", path.display())]
    Io {
        /// The action as a verb: read, create, …
        act: &'static str,
        /// Path of the file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// There is a key already.
    #[error("there is a key at {} already, and overwriting it would lose this peer's identity; choose another folder", .0.display())]
    Exists(PathBuf),
    /// Others can read the file.
    #[error("the key file {} can be read by others (mode {mode:03o}); expected mode 600: run `chmod 600 {}` and, if others use this machine, make a new key", path.display(), path.display())]
    Exposed {
        /// Path of the file.
        path: PathBuf,
        /// Permission bits of the file.
        mode: u32,
    },
    /// The file holds something else.
    #[error("{} is not a key file; expected {KEY_DIGITS} hexadecimal digits as `kith init` writes them", .0.display())]
    NotAKey(PathBuf),
    /// The operating system gives no random bytes.
    #[error("the operating system gave no random bytes for a key: {0}")]
    Random(String),
}

impl Identity {
    /// A new key from the operating system's randomness.
    ///
    /// # Errors
    /// When the operating system has none.
    pub fn generate() -> Result<Identity, IdentityError> {
        let mut secret = [0u8; 32];
        getrandom::fill(&mut secret).map_err(|error| IdentityError::Random(error.to_string()))?;
        Ok(Identity { secret })
    }

    /// The identity with this secret; for testnets, whose keys follow from a seed.
    pub fn from_secret(secret: [u8; 32]) -> Identity {
        Identity { secret }
    }

    /// Writes the key to a new file of mode 0600 and makes it durable.
    ///
    /// # Errors
    /// When there is a file already, or it cannot be written.
    pub fn create(&self, path: &Path) -> Result<(), IdentityError> {
        let io = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::AlreadyExists => IdentityError::Exists(path.to_owned()),
            _ => IdentityError::Io {
                act: "create",
                path: path.to_owned(),
                source,
            },
        };
        let mut text = Zeroizing::new(String::with_capacity(KEY_DIGITS + 1));
        for byte in &self.secret {
            text.extend(
                [byte >> 4, byte & 15].map(|digit| {
                    char::from_digit(u32::from(digit), 16).expect("a nibble is a digit")
                }),
            );
        }
        text.push('\n');
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(io)?;
        file.write_all(text.as_bytes())
            .and_then(|()| file.sync_all())
            .map_err(io)?;
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(io)
    }

    /// Reads the key at `path`.
    ///
    /// # Errors
    /// When it cannot be read, others can read it, or it is not a key.
    pub fn load(path: &Path) -> Result<Identity, IdentityError> {
        let io = |source| IdentityError::Io {
            act: "read",
            path: path.to_owned(),
            source,
        };
        let mut file = File::open(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        let mode = metadata.mode() & 0o777;
        if exposed(mode, metadata.uid(), Uid::effective().as_raw()) {
            return Err(IdentityError::Exposed {
                path: path.to_owned(),
                mode,
            });
        }
        let not_a_key = || IdentityError::NotAKey(path.to_owned());
        let mut text = Zeroizing::new(Vec::with_capacity(2 * KEY_DIGITS));
        (&mut file)
            .take(2 * KEY_DIGITS as u64)
            .read_to_end(&mut text)
            .map_err(io)?;
        let digits = text.trim_ascii();
        if digits.len() != KEY_DIGITS {
            return Err(not_a_key());
        }
        let mut secret = [0u8; 32];
        for (byte, pair) in secret.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |place: usize| char::from(pair[place]).to_digit(16).ok_or_else(not_a_key);
            *byte = (digit(0)? * 16 + digit(1)?) as u8;
        }
        Ok(Identity { secret })
    }

    /// The peer that holds this key.
    pub fn peer(&self) -> PeerId {
        self.authenticator().peer()
    }

    /// Signs with this key and verifies others' signatures.
    pub fn authenticator(&self) -> Authenticator {
        Authenticator::from_secret(&self.secret)
    }

    /// The secret, for the transport only.
    pub(crate) fn secret(&self) -> [u8; 32] {
        self.secret
    }
}

/// Whether others than the peer can read or change a key file with this mode and owner, if the
/// process runs as `user`.
fn exposed(mode: u32, owner: u32, user: u32) -> bool {
    const ROOT: u32 = 0;
    const GROUP_MAY_READ: u32 = 0o040;
    let handed_over = owner == ROOT && user != ROOT;
    let forbidden = match handed_over {
        true => 0o077 & !GROUP_MAY_READ,
        false => 0o077,
    };
    mode & forbidden != 0
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Identity({})", self.peer())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_survives_its_file_and_is_never_overwritten_or_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(KEY_FILE);
        let identity = Identity::generate().unwrap();
        identity.create(&path).unwrap();
        assert_eq!(Identity::load(&path).unwrap().peer(), identity.peer());
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(matches!(
            Identity::generate().unwrap().create(&path),
            Err(IdentityError::Exists(_))
        ));
        let digits = std::fs::read_to_string(&path).unwrap();
        assert!(!format!("{identity:?}").contains(&digits.trim()[..16]));
    }

    #[test]
    fn only_a_key_of_roots_that_is_handed_to_a_service_may_be_read_by_a_group() {
        const SERVICE: u32 = 65_532;
        assert!(!exposed(0o440, 0, SERVICE) && !exposed(0o400, 0, SERVICE));
        assert!(exposed(0o460, 0, SERVICE), "its group could change it");
        assert!(exposed(0o444, 0, SERVICE), "everybody could read it");
        assert!(exposed(0o440, SERVICE, SERVICE), "its owner can close it");
        assert!(exposed(0o440, 0, 0), "root can close it");
        assert!(!exposed(0o600, SERVICE, SERVICE));
    }

    #[test]
    fn a_key_that_others_can_read_or_that_is_none_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(KEY_FILE);
        Identity::generate().unwrap().create(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = Identity::load(&path).unwrap_err();
        assert!(matches!(error, IdentityError::Exposed { mode: 0o640, .. }));
        assert!(error.to_string().contains("chmod 600"));
        std::fs::write(&path, "not a key").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(
            Identity::load(&path),
            Err(IdentityError::NotAKey(_))
        ));
    }
}
