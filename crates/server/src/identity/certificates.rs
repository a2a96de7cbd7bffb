use std::collections::HashMap;

use cache_types::{Caller, Grant};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What the holder of a client certificate may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRights {
    /// The common name of its subject, or a DNS name, mail address or URI among its alternative names; `*` is every
    /// certificate that the authority issued.
    pub name: String,
    /// What is allowed.
    pub grants: Vec<Grant>,
    /// The tenant; empty for the default one.
    pub tenant: String,
}

/// The callers of client certificates.
#[derive(Debug, Default)]
pub(super) struct Certificates {
    named: HashMap<String, CertificateRights>,
}

impl Certificates {
    pub(super) fn new(rights: &[CertificateRights]) -> Self {
        Self { named: rights.iter().map(|rights| (rights.name.clone(), rights.clone())).collect() }
    }

    /// The caller who proved to hold this certificate, which the handshake has verified. The first of its names that has
    /// rights counts.
    pub(super) fn find(&self, der: &[u8]) -> Caller {
        let names = names(der);
        let of_name = names.iter().find_map(|name| Some((name.as_str(), self.named.get(name)?)));
        let anyone = || Some((names.first()?.as_str(), self.named.get("*")?));
        match of_name.or_else(anyone) {
            Some((name, rights)) => Caller::known(name, &rights.tenant, rights.grants.clone()),
            // Known by its authority, and allowed nothing.
            None => Caller::known(names.first().map_or("certificate", String::as_str), "", Vec::new()),
        }
    }
}

/// The names in a certificate: the common name first.
fn names(der: &[u8]) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else {
        return Vec::new();
    };
    let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    let mut names: Vec<String> = common.map(str::to_owned).collect();
    if let Ok(Some(alternative)) = certificate.subject_alternative_name() {
        names.extend(alternative.value.general_names.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => {
                Some((*name).to_owned())
            }
            _ => None,
        }));
    }
    names.retain(|name| !name.is_empty() && name != "*");
    names
}

#[cfg(test)]
mod tests {
    use cache_types::Role;
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::super::grants;
    use super::*;

    fn certificate(common: &str, alternative: &[&str]) -> Vec<u8> {
        let names: Vec<String> = alternative.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name.push(DnType::CommonName, common);
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").der().to_vec()
    }

    fn rights(name: &str, roles: &str) -> CertificateRights {
        CertificateRights {
            name: name.to_owned(),
            grants: grants::parse([roles]).expect("roles"),
            tenant: String::new(),
        }
    }

    #[test]
    fn subject_and_alternative_names_are_looked_up_and_others_may_nothing() {
        let known = Certificates::new(&[rights("builder", "ac-write"), rights("laptop.example", "read")]);
        let builder = known.find(&certificate("builder", &[]));
        assert!(builder.may_anywhere(Role::AcWrite) && builder.name() == "builder");
        let laptop = known.find(&certificate("anything", &["other.example", "laptop.example"]));
        assert!(laptop.may_anywhere(Role::Read) && !laptop.may_anywhere(Role::AcWrite));
        assert_eq!(laptop.name(), "laptop.example");
        let stranger = known.find(&certificate("stranger", &["builder.example"]));
        assert!(stranger.may_nothing() && !stranger.is_anonymous());
        assert!(known.find(b"no certificate").may_nothing());
        // A name in a certificate does not stand for every name.
        assert!(known.find(&certificate("*", &[])).may_nothing());
        let all = Certificates::new(&[rights("*", "read")]);
        assert!(all.find(&certificate("stranger", &[])).may_anywhere(Role::Read));
    }
}
