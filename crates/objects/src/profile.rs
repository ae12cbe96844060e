//! Static keys and the region out of AWS's shared files (`~/.aws/credentials`, `~/.aws/config`): the one link of the
//! standard credential chain that `object_store` leaves out. Keys in the environment, web identity, container and instance
//! credentials are its own; a profile that signs in by SSO or assumes a role needs one of these.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Keys and region of a profile, as far as the files hold them.
#[derive(Default, PartialEq, Eq)]
pub(crate) struct Profile {
    pub(crate) keys: Option<Keys>,
    pub(crate) region: Option<String>,
}

/// An access key. Never shown.
#[derive(PartialEq, Eq)]
pub(crate) struct Keys {
    pub(crate) id: String,
    pub(crate) secret: String,
    pub(crate) token: Option<String>,
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Profile").field("keys", &self.keys.is_some()).field("region", &self.region).finish()
    }
}

/// Reads the profile `wanted` (or `AWS_PROFILE`, or `default`); what is not there is left out.
pub(crate) fn load(wanted: Option<&str>, env: &dyn Fn(&str) -> Option<String>) -> Profile {
    let name = wanted.map(str::to_owned).or_else(|| env("AWS_PROFILE")).unwrap_or_else(|| "default".to_owned());
    let file = |variable: &str, default: &str| {
        let home = || env("HOME").map(|home| PathBuf::from(home).join(".aws").join(default));
        env(variable).map(PathBuf::from).or_else(home)
    };
    let credentials = section(file("AWS_SHARED_CREDENTIALS_FILE", "credentials").as_deref(), &[&name]);
    let config = section(file("AWS_CONFIG_FILE", "config").as_deref(), &[&format!("profile {name}"), &name]);
    let keys = [&credentials, &config].into_iter().find_map(|from| {
        Some(Keys {
            id: from.get("aws_access_key_id")?.clone(),
            secret: from.get("aws_secret_access_key")?.clone(),
            token: from.get("aws_session_token").cloned(),
        })
    });
    Profile { keys, region: config.get("region").or_else(|| credentials.get("region")).cloned() }
}

fn section(file: Option<&Path>, names: &[&str]) -> HashMap<String, String> {
    let text = file.and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
    let mut inside = false;
    let mut found = HashMap::new();
    for line in text.lines() {
        // Indented lines belong to the nested value before them.
        if line.starts_with([' ', '\t', '#', ';']) {
            continue;
        }
        if let Some(name) = line.trim().strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            inside = names.contains(&name.trim());
        } else if let (true, Some((key, value))) = (inside, line.split_once('=')) {
            found.insert(key.trim().to_owned(), value.trim().to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_region_come_from_the_wanted_profile() {
        let folder = tempfile::tempdir().unwrap();
        let aws = folder.path().join(".aws");
        std::fs::create_dir(&aws).unwrap();
        std::fs::write(
            aws.join("credentials"),
            "[default]\naws_access_key_id = A\naws_secret_access_key=B=\n\n# comment\n[ work ]\naws_access_key_id=C\n\
             aws_secret_access_key=D\naws_session_token=E\n",
        )
        .unwrap();
        std::fs::write(
            aws.join("config"),
            "[default]\nregion = eu-west-1\ns3 =\n  region = x\n[profile work]\nregion=eu-central-1\n[profile sso]\nsso_session = s\n",
        )
        .unwrap();
        let home = folder.path().to_str().unwrap().to_owned();
        let env = |profile: Option<&'static str>| {
            let home = home.clone();
            move |key: &str| match key {
                "HOME" => Some(home.clone()),
                "AWS_PROFILE" => profile.map(str::to_owned),
                _ => None,
            }
        };
        let keys = |id: &str, secret: &str, token: Option<&str>| {
            Some(Keys { id: id.into(), secret: secret.into(), token: token.map(Into::into) })
        };
        let default = load(None, &env(None));
        assert_eq!(default, Profile { keys: keys("A", "B=", None), region: Some("eu-west-1".into()) });
        let work = Profile { keys: keys("C", "D", Some("E")), region: Some("eu-central-1".into()) };
        assert_eq!(load(Some("work"), &env(None)), work);
        assert_eq!(load(None, &env(Some("work"))), work);
        assert_eq!(load(Some("sso"), &env(None)), Profile::default());
        assert_eq!(load(None, &|_| None), Profile::default());
        assert!(!format!("{work:?}").contains('D'));
    }
}
