{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkIf mkMerge;
  cfg = config.services.imgsys;
  anything = cfg.server.enable || cfg.persister.enable || cfg.worker.enable;

  # What is wrong with it is said while the system is built. Tokens come as a credential, of which
  # the file says nothing: that others are not let in without is an assertion.
  configFile =
    let
      written = (pkgs.formats.toml { }).generate "imgsys.toml" cfg.settings;
      check = program: "${lib.getExe' cfg.package program} --config ${written}";
    in
    if pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform then
      pkgs.runCommand "imgsys.toml" { } ''
        ${check "imgsys-persister"} check-config
        ${lib.optionalString cfg.server.enable "${check "imgsys-server"} --auth-insecure check-config"}
        ${lib.optionalString cfg.worker.enable "${check "imgsys-worker"} check-config"}
        cp ${written} $out
      ''
    else
      written;

  # A secret becomes a credential of the service, and the program is told where systemd puts it.
  # Without one, the unit's own search in the credential store finds nothing, which is fine.
  credentials =
    secrets:
    let
      given = lib.filterAttrs (_: secret: secret.file != null) secrets;
    in
    {
      serviceConfig.LoadCredential = lib.mapAttrsToList (name: secret: "${name}:${secret.file}") given;
      environment = lib.mapAttrs' (name: secret: lib.nameValuePair secret.variable "%d/${name}") given;
    };

  redisPassword."imgsys.redis-password" = {
    file = cfg.redis.passwordFile;
    variable = "IMGSYS_REDIS_PASSWORD_FILE";
  };
  databasePassword."imgsys.database-password" = {
    file = cfg.database.passwordFile;
    variable = "IMGSYS_DATABASE_PASSWORD_FILE";
  };
  tokens."imgsys.tokens" = {
    file = cfg.tokensFile;
    variable = "IMGSYS_AUTH_TOKENS_FILE";
  };

  certificate = {
    "imgsys.tls-certificate" = {
      file = cfg.tls.certificate;
      variable = "IMGSYS_SERVER_TLS_CERTIFICATE";
    };
    "imgsys.tls-key" = {
      file = cfg.tls.key;
      variable = "IMGSYS_SERVER_TLS_KEY";
    };
    "imgsys.tls-client-ca" = {
      file = cfg.tls.clientCa;
      variable = "IMGSYS_SERVER_TLS_CLIENT_CA";
    };
  };
  workerToken."imgsys.worker-token" = {
    file = cfg.worker.tokenFile;
    variable = "IMGSYS_WORKER_IMAGES_TOKEN_FILE";
  };

  service =
    secrets: extra:
    mkMerge [
      {
        wantedBy = [ "multi-user.target" ];
        restartTriggers = [ configFile ];
      }
      (credentials secrets)
      extra
    ];

  portOf = address: lib.toInt (lib.last (lib.splitString ":" address));
  isLocal =
    address:
    lib.any (prefix: lib.hasPrefix prefix address) [
      "127."
      "[::1]"
      "localhost:"
    ];
  inherit (cfg.settings.server) listen http_listen;
in
{
  config = mkMerge [
    {
      services.imgsys.settings = {
        worker = {
          threads = lib.mkDefault cfg.worker.threads;
          image_sources = lib.mkDefault cfg.worker.imageSources;
          onnx = mkIf (cfg.worker.model != null) {
            model = lib.mkDefault "${cfg.worker.model}/model.onnx";
            name = lib.mkDefault (cfg.worker.model.pname or "onnx");
          };
        };
        server = mkIf (cfg.server.imagesDir != null) { images_dir = lib.mkDefault cfg.server.imagesDir; };
      };
    }

    (mkIf anything {
      systemd.packages = [ cfg.package ];
      environment.etc."imgsys/imgsys.toml".source = configFile;
      environment.systemPackages = [ cfg.package ];

      users.groups.imgsys = { };
      users.users.imgsys = {
        isSystemUser = true;
        group = "imgsys";
        home = "/var/lib/imgsys";
        description = "Image analysis (imgsys)";
      };
    })

    (mkIf cfg.server.enable {
      systemd.services.imgsys-server =
        service (redisPassword // databasePassword // tokens // certificate)
          (mkMerge [
            (mkIf (cfg.server.imagesDir != null) {
              serviceConfig.ReadWritePaths = [ cfg.server.imagesDir ];
            })
            # Not in the configuration file: that is checked without the certificate.
            (mkIf cfg.tls.http { environment.IMGSYS_SERVER_TLS_HTTP = "true"; })
          ]);
      systemd.tmpfiles.settings.imgsys = mkIf (cfg.server.imagesDir != null) {
        ${cfg.server.imagesDir}.d = {
          user = "imgsys";
          group = "imgsys";
          mode = "0750";
        };
      };
      networking.firewall.allowedTCPPorts = mkIf cfg.server.openFirewall (
        [ (portOf listen) ] ++ lib.optional (http_listen != "" && !isLocal http_listen) (portOf http_listen)
      );
    })

    (mkIf cfg.persister.enable {
      systemd.services.imgsys-persister = service (redisPassword // databasePassword) { };
      systemd.services.imgsys-migrate = mkMerge [
        { restartTriggers = [ configFile ]; }
        (credentials databasePassword)
      ];
    })

    (mkIf cfg.worker.enable {
      systemd.services.imgsys-worker = service (redisPassword // workerToken) { };
    })
  ];
}
