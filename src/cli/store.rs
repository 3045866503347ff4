//! The arguments of the commands about the certificate store. Names, flags and texts are those of
//! Wrangler (`wrangler mtls-certificate`, `wrangler cert`), so that its documentation applies.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Where the store is; every command about it takes this.
#[derive(Args, Clone, Debug)]
pub struct StoreFlag {
    /// The directory of the certificate store [default: /var/lib/mtlsd for root and for the user
    /// it belongs to, else mtlsd in $XDG_DATA_HOME or ~/.local/share]
    #[arg(long, env = "MTLSD_STORE", value_name = "DIR")]
    pub store: Option<PathBuf>,
}

/// Which certificate a command is about.
#[derive(Args, Debug)]
pub struct Target {
    /// The id of the certificate
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// The name of the certificate
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
}

/// `mtlsd mtls-certificate`.
#[derive(Debug, Subcommand)]
pub enum MtlsCertificate {
    /// Upload an mTLS certificate
    Upload(Upload),
    /// List uploaded mTLS certificates
    List(List),
    /// Show what is known of one certificate
    Show(Show),
    /// Put a new certificate in the place of one; its id stays, and running daemons notice
    Replace(Replace),
    /// Delete an mTLS certificate
    Delete(Delete),
}

/// `mtlsd cert`.
#[derive(Debug, Subcommand)]
pub enum Cert {
    /// Upload a new cert
    #[command(subcommand)]
    Upload(CertUpload),
    /// List uploaded certificates, CA bundles among them
    List(List),
    /// Show what is known of one certificate
    Show(Show),
    /// Put a new CA bundle, or a new certificate, in the place of one; its id stays
    Replace(CertReplace),
    /// Delete a certificate
    Delete(Delete),
}

/// `mtlsd cert upload`.
#[derive(Debug, Subcommand)]
pub enum CertUpload {
    /// Upload an mTLS certificate
    MtlsCertificate(Upload),
    /// Upload a CA certificate chain
    CertificateAuthority(UploadAuthority),
}

/// Keeps a client certificate.
#[derive(Args, Debug)]
pub struct Upload {
    /// The path to a certificate file (.pem) containing a chain of certificates to upload
    #[arg(long, value_name = "FILE")]
    pub cert: PathBuf,
    /// The path to a file containing the private key for your leaf certificate
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// A file with the password of the key, or of the PKCS#12 file that is --cert and --key; what is
    /// kept is not encrypted
    #[arg(long, value_name = "FILE")]
    pub key_password_file: Option<PathBuf>,
    /// The name for the certificate; no two certificates have the same
    #[arg(long)]
    pub name: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Where the store is
    #[command(flatten)]
    pub store: StoreFlag,
}

/// Keeps a CA bundle.
#[derive(Args, Debug)]
pub struct UploadAuthority {
    /// The path to a certificate file (.pem) containing a chain of CA certificates to upload
    #[arg(long, value_name = "FILE")]
    pub ca_cert: PathBuf,
    /// The name for the certificate; no two certificates have the same
    #[arg(long)]
    pub name: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Where the store is
    #[command(flatten)]
    pub store: StoreFlag,
}

/// Lists what is in the store.
#[derive(Args, Debug)]
pub struct List {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Where the store is
    #[command(flatten)]
    pub store: StoreFlag,
}

/// Shows one certificate. The key stays where it is.
#[derive(Args, Debug)]
pub struct Show {
    /// Which certificate
    #[command(flatten)]
    pub target: Target,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Where the store is
    #[command(flatten)]
    pub store: StoreFlag,
}

/// Puts a new client certificate in the place of one.
#[derive(Args, Debug)]
pub struct Replace {
    /// Which certificate
    #[command(flatten)]
    pub target: Target,
    /// The path to the new certificate file (.pem), with its chain
    #[arg(long, value_name = "FILE")]
    pub cert: PathBuf,
    /// The path to the file containing its private key
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// A file with the password of the key, or of the PKCS#12 file that is --cert and --key; what is
    /// kept is not encrypted
    #[arg(long, value_name = "FILE")]
    pub key_password_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Where the store is
    #[command(flatten)]
    pub store: StoreFlag,
}

/// Puts something new in the place of what is stored.
#[derive(Args, Debug)]
pub struct CertReplace {
    /// Which certificate
    #[command(flatten)]
    pub target: Target,
    /// The path to the new CA bundle (.pem)
    #[arg(long, value_name = "FILE", required_unless_present = "cert", conflicts_with_all = ["cert", "key"])]
    pub ca_cert: Option<PathBuf>,
    /// The path to the new certificate file (.pem), with its chain
    #[arg(long, value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,
    /// The path to the file containing its private key
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
    /// A file with the password of the key, or of the PKCS#12 file that is --cert and --key; what is
    /// kept is not encrypted
    #[arg(long, value_name = "FILE", requires = "key")]
    pub key_password_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Where the store is
    #[command(flatten)]
    pub store: StoreFlag,
}

/// Forgets a certificate for good.
#[derive(Args, Debug)]
pub struct Delete {
    /// Which certificate
    #[command(flatten)]
    pub target: Target,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
    /// Refuse what this configuration file still uses
    #[arg(short, long, env = "MTLSD_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the store is
    #[command(flatten)]
    pub store: StoreFlag,
}
