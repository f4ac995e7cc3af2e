use super::*;

const DAY: i64 = 24 * 3600;
const NOW: i64 = 1_800_000_000;

fn names() -> Vec<String> {
    vec![
        "tidewaiter.house.svc".to_owned(),
        "tidewaiter.house.svc.cluster.local".to_owned(),
    ]
}

fn issued() -> Issued {
    Issued::new(&names(), Vec::new(), NOW, Lifetimes::default()).unwrap()
}

fn read(issued: &Issued) -> Issued {
    Issued::read(&issued.data()).unwrap()
}

#[test]
fn what_is_written_is_read_and_nothing_is_due() {
    let issued = read(&issued());
    let Due::Nothing(left) = issued.due(&names(), NOW, Lifetimes::default()) else {
        panic!("something is due")
    };
    assert_eq!(left, 60 * DAY.unsigned_abs());
    assert_eq!(Certificate::all(issued.bundle(NOW).as_bytes()).len(), 1);
}

#[test]
fn a_certificate_is_renewed_when_a_third_is_left_and_its_authority_stays() {
    let issued = issued();
    let lifetimes = Lifetimes::default();
    assert!(matches!(
        issued.due(&names(), NOW + 60 * DAY - 1, lifetimes),
        Due::Nothing(1)
    ));
    assert_eq!(issued.due(&names(), NOW + 60 * DAY, lifetimes), Due::Certificate);
    let bundle = issued.bundle(NOW);
    let renewed = read(&issued.renewed(&names(), NOW + 60 * DAY, lifetimes).unwrap());
    assert_eq!(renewed.bundle(NOW), bundle);
    assert!(matches!(
        renewed.due(&names(), NOW + 60 * DAY, lifetimes),
        Due::Nothing(_)
    ));
}

#[test]
fn a_service_with_another_name_gets_another_certificate() {
    let other = vec!["gate.house.svc".to_owned()];
    let issued = issued();
    assert_eq!(issued.due(&other, NOW, Lifetimes::default()), Due::Certificate);
    let renewed = issued.renewed(&other, NOW, Lifetimes::default()).unwrap();
    assert!(matches!(
        renewed.due(&other, NOW, Lifetimes::default()),
        Due::Nothing(_)
    ));
}

/// For ten years, a look every day: whatever is served is signed by an authority that was in the bundle the day before, nothing served is ever out of date,
/// and the bundle doesn't grow.
#[test]
fn over_years_whoever_trusts_yesterdays_bundle_trusts_todays_certificate() {
    let lifetimes = Lifetimes::default();
    let mut issued = issued();
    let (mut authorities, mut certificates) = (1, 1);
    for day in 1..3650 {
        let now = NOW + day * DAY;
        match issued.due(&names(), now, lifetimes) {
            Due::Nothing(_) => {}
            Due::Certificate => {
                let trusted = Certificate::all(issued.bundle(now - DAY).as_bytes());
                issued = read(&issued.renewed(&names(), now, lifetimes).unwrap());
                assert!(trusted.contains(&issued.authority), "day {day}");
                certificates += 1;
            }
            Due::Authority => {
                let before = issued.authority.clone();
                assert!(issued.certificate.valid_at(now), "day {day}: too late for an overlap");
                issued = read(&Issued::new(&names(), valid(issued.all().cloned(), now), now, lifetimes).unwrap());
                assert!(issued.trusted.contains(&before), "day {day}");
                authorities += 1;
            }
        }
        assert!(
            issued.certificate.valid_at(now) && issued.authority.valid_at(now),
            "day {day}"
        );
        assert!(issued.certificate.not_after <= issued.authority.not_after, "day {day}");
        assert!(Certificate::all(issued.bundle(now).as_bytes()).len() <= 2, "day {day}");
    }
    assert!((12..=15).contains(&authorities), "{authorities}");
    assert!((50..=65).contains(&certificates), "{certificates}");
}

#[test]
fn what_a_replica_with_a_clock_ahead_issued_is_issued_again() {
    let ahead = Issued::new(&names(), Vec::new(), NOW + 2 * DAY, Lifetimes::default()).unwrap();
    assert_eq!(ahead.due(&names(), NOW, Lifetimes::default()), Due::Authority);
    let issued = issued().renewed(&names(), NOW + 2 * DAY, Lifetimes::default()).unwrap();
    assert_eq!(issued.due(&names(), NOW, Lifetimes::default()), Due::Certificate);
    // An API server that is half an hour behind takes what is issued now.
    assert!(self::issued().certificate.valid_at(NOW - 1800));
}

#[test]
fn a_shorter_lifetime_counts_at_once() {
    let issued = issued();
    let days = |authority: u64, certificate: u64| Lifetimes {
        authority: Duration::from_hours(authority * 24),
        certificate: Duration::from_hours(certificate * 24),
    };
    assert_eq!(issued.due(&names(), NOW, days(365, 7)), Due::Certificate);
    assert_eq!(issued.due(&names(), NOW, days(180, 90)), Due::Authority);
    assert!(matches!(issued.due(&names(), NOW, days(730, 180)), Due::Nothing(_)));
    let renewed = issued.renewed(&names(), NOW, days(365, 7)).unwrap();
    assert!(matches!(renewed.due(&names(), NOW, days(365, 7)), Due::Nothing(_)));
}

#[test]
fn a_secret_edited_by_hand_is_told_apart() {
    let good = issued().data();
    let other = issued().data();
    let with = |key: &str, value: Option<&[u8]>| {
        let mut data = good.clone();
        match value {
            Some(value) => data.insert(key.to_owned(), ByteString(value.to_vec())),
            None => data.remove(key),
        };
        Issued::read(&data).err().map(|error| error.to_string())
    };
    assert_eq!(with("tls.crt", None).unwrap(), "the Secret has no tls.crt");
    assert_eq!(
        with("tls.key", Some(b"nonsense")).unwrap(),
        "the Secret's tls.key can't be read"
    );
    assert_eq!(with("ca.crt", Some(b"")).unwrap(), "the Secret's ca.crt can't be read");
    for key in ["tls.crt", "tls.key", "ca.crt", "ca.key"] {
        let strange = with(key, Some(&other[key].0)).unwrap();
        assert_eq!(
            strange, "the Secret's certificate and keys don't belong together",
            "{key}"
        );
    }
}

/// What rustls' own verifier says of it, as an API server would.
#[test]
fn a_client_that_trusts_the_bundle_takes_the_certificate_for_its_names_alone() {
    use std::sync::Arc;

    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier as _;
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

    let issued = issued();
    let mut roots = rustls::RootCertStore::empty();
    for authority in Certificate::all(issued.bundle(NOW).as_bytes()) {
        roots.add(CertificateDer::from(authority.der)).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .unwrap();
    let certificate = CertificateDer::from(issued.certificate.der.clone());
    let now = UnixTime::since_unix_epoch(Duration::from_secs(NOW.unsigned_abs()));
    let verify = |name: &'static str| {
        let name = ServerName::try_from(name).unwrap();
        verifier.verify_server_cert(&certificate, &[], &name, &[], now).is_ok()
    };
    assert!(verify("tidewaiter.house.svc"));
    assert!(!verify("elsewhere.house.svc"));
}
