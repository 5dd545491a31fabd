# What can't work, and what to do about it.
{ config, lib, ... }:
let
  cfg = config.services.imgsys;
  inherit (cfg.settings) server auth;

  isLocal =
    address:
    lib.any (prefix: lib.hasPrefix prefix address) [
      "127."
      "[::1]"
      "localhost:"
    ];
  open = lib.filter (address: address != "" && !isLocal address) [
    server.listen
    server.http_listen
  ];

  # Files of secrets that were put into the configuration file, which knows nothing of credentials.
  misplaced = lib.filter (name: lib.hasAttrByPath (lib.splitString "." name) cfg.settings) [
    "auth.tokens_file"
    "database.password_file"
    "redis.password_file"
    "server.tls.key"
    "worker.images.token_file"
  ];
in
{
  config.assertions = [
    {
      assertion = cfg.server.enable -> open == [ ] || cfg.tokensFile != null || auth.insecure;
      message = ''
        services.imgsys: ${toString open} can be reached by others, and there are no tokens. Set
        services.imgsys.tokensFile to a file that `imgsys-server token new` has made, listen on
        127.0.0.1, or set services.imgsys.settings.auth.insecure = true if everybody may do
        everything.
      '';
    }
    {
      assertion =
        cfg.worker.enable && !cfg.server.enable
        -> lib.any (source: !lib.hasPrefix "file:" source) cfg.settings.worker.image_sources;
      message = ''
        services.imgsys: this machine has a worker but no server, so there are no images here. Set
        services.imgsys.worker.imageSources to the image_url of the servers, such as
        [ "http://images.example:7451/images/" ].
      '';
    }
    {
      assertion = (cfg.tls.certificate == null) == (cfg.tls.key == null);
      message = ''
        services.imgsys: TLS needs both, tls.certificate and tls.key.
      '';
    }
    {
      assertion = cfg.tls.http || cfg.tls.clientCa != null -> cfg.tls.certificate != null;
      message = ''
        services.imgsys: tls.http and tls.clientCa need a certificate: set tls.certificate and
        tls.key.
      '';
    }
    {
      assertion = misplaced == [ ];
      message = ''
        services.imgsys: secrets are handed over as credentials of systemd. Instead of
        ${lib.concatMapStringsSep ", " (name: "settings.${name}") misplaced}, set
        services.imgsys.tokensFile, tls.key, worker.tokenFile, database.passwordFile or
        redis.passwordFile.
      '';
    }
  ];
}
