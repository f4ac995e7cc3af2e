//! The one fact we need from an X.509 certificate that rustls doesn't tell: when it ends.

/// `notAfter` in seconds since 1970. None for anything that isn't a certificate of RFC 5280's shape.
pub(crate) fn not_after(certificate: &[u8]) -> Option<i64> {
    const SEQUENCE: u8 = 0x30;
    const VERSION: u8 = 0xa0;
    let (_, certificate, _) = element(certificate)?;
    let (_, mut tbs, _) = element(certificate)?;
    if *tbs.first()? == VERSION {
        tbs = element(tbs)?.2;
    }
    // serialNumber, signature, issuer
    for _ in 0..3 {
        tbs = element(tbs)?.2;
    }
    let (tag, validity, _) = element(tbs)?;
    if tag != SEQUENCE {
        return None;
    }
    let (_, _, rest) = element(validity)?;
    let (tag, time, _) = element(rest)?;
    seconds(tag, time)
}

/// Tag, content and what follows of the first element.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, mut rest) = rest.split_first()?;
    let mut length = usize::from(first);
    if first >= 0x80 {
        let bytes = usize::from(first & 0x7f);
        if bytes == 0 || bytes > 4 {
            return None;
        }
        let (size, after) = rest.split_at_checked(bytes)?;
        length = size.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte));
        rest = after;
    }
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// A `UTCTime` (years 1950 to 2049) or `GeneralizedTime`, which RFC 5280 wants in seconds and in UTC.
fn seconds(tag: u8, time: &[u8]) -> Option<i64> {
    const UTC_TIME: u8 = 0x17;
    let number = |digits: &[u8]| {
        digits.iter().try_fold(0_i64, |sum, digit| {
            digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0'))
        })
    };
    let (year, rest) = if tag == UTC_TIME {
        let (year, rest) = time.split_at_checked(2)?;
        let year = number(year)?;
        (if year < 50 { 2000 + year } else { 1900 + year }, rest)
    } else {
        let (year, rest) = time.split_at_checked(4)?;
        (number(year)?, rest)
    };
    let [month, day, hour, minute, second] = {
        let mut parts = [0; 5];
        for (part, digits) in parts.iter_mut().zip(rest.get(..10)?.chunks(2)) {
            *part = number(digits)?;
        }
        parts
    };
    if !(1..=12).contains(&month) {
        return None;
    }
    // Days since 1970 in the proleptic Gregorian calendar, with years that begin in March so that the leap day is the last one.
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + of_year - 719_468;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_forms_of_time() {
        assert_eq!(seconds(0x17, b"700101000000Z"), Some(0));
        assert_eq!(seconds(0x17, b"000229120000Z"), Some(951_825_600));
        assert_eq!(seconds(0x18, b"20991231235959Z"), Some(4_102_444_799));
        assert_eq!(seconds(0x17, b"261122123547Z"), Some(1_795_350_947));
        assert_eq!(seconds(0x17, b"26112212"), None);
        assert_eq!(seconds(0x18, b"2099x231235959Z"), None);
    }

    #[test]
    fn finds_the_end_of_a_real_certificate() {
        let mut params = rcgen::CertificateParams::new(vec!["tidewaiter.test".into()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2031, 3, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        assert_eq!(not_after(certificate.der()), Some(1_930_089_600));
    }

    proptest::proptest! {
        #[test]
        fn never_panics(bytes: Vec<u8>) {
            let _ = not_after(&bytes);
        }
    }
}
