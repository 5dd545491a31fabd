//! What to do about an error of TLS.

use rustls::{AlertDescription as Alert, CertificateError as Bad, Error as Tls};
use std::{error::Error, io, sync::Arc};

/// What an error of TLS means for whoever runs the program, as a sentence about the peer; `None`
/// if this error, and what it came from, are none of TLS or say all there is to say.
#[must_use]
pub fn advice(error: &(dyn Error + 'static)) -> Option<&'static str> {
    explain(find(error)?)
}

/// The error of TLS from which this one came.
fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Tls> {
    if let Some(found) = error.downcast_ref::<Tls>() {
        return Some(found);
    }
    // Both say that their source is that of what they hold, and pass over that itself.
    if let Some(shared) = error.downcast_ref::<Arc<dyn Error + Send + Sync>>() {
        return find(shared.as_ref());
    }
    if let Some(inner) = error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref)
    {
        return find(inner);
    }
    find(error.source()?)
}

fn explain(error: &Tls) -> Option<&'static str> {
    Some(match error {
        Tls::InvalidCertificate(bad) => match bad {
            Bad::UnknownIssuer => {
                "its certificate is signed by nobody whom we trust: name the signer's as CA, if it \
                 is the right one"
            }
            Bad::Expired | Bad::ExpiredContext { .. } => "its certificate has expired",
            Bad::NotValidYet | Bad::NotValidYetContext { .. } => {
                "its certificate is not valid yet: is one of the clocks wrong?"
            }
            Bad::NotValidForName | Bad::NotValidForNameContext { .. } => {
                "its certificate is for another name than the one we connect to"
            }
            Bad::Revoked => "its certificate has been revoked",
            Bad::ApplicationVerificationFailure => {
                "its certificate is not the one with the fingerprint that was named"
            }
            _ => return None,
        },
        Tls::InvalidMessage(_) => "it does not speak TLS",
        Tls::PeerIncompatible(_) => "it speaks no TLS that we speak: 1.2 or 1.3",
        Tls::NoCertificatesPresented => "it shows no certificate",
        Tls::AlertReceived(alert) => match *alert {
            Alert::CertificateRequired => "it wants a certificate of ours, and we have none",
            Alert::UnknownCA
            | Alert::BadCertificate
            | Alert::CertificateUnknown
            | Alert::AccessDenied => "it does not accept our certificate",
            Alert::CertificateExpired => "our certificate has expired",
            Alert::ProtocolVersion => "it speaks no TLS that we speak: 1.2 or 1.3",
            _ => return None,
        },
        _ => return None,
    })
}
