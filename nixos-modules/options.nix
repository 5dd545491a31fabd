{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib)
    mkEnableOption
    mkOption
    literalExpression
    types
    ;
  cfg = config.services.imgsys;
  toml = pkgs.formats.toml { };

  # A file that must not be in the store, which everybody can read.
  secret =
    what:
    mkOption {
      type = types.nullOr (types.pathWith { inStore = false; });
      default = null;
      example = "/run/secrets/imgsys";
      description = ''
        File with ${what}, outside of the Nix store. It is handed to the services as a credential of
        systemd, so it may be readable by root alone.
      '';
    };

  known =
    type: default: description:
    mkOption { inherit type default description; };
in
{
  options.services.imgsys = {
    enable = mkEnableOption ''
      imgsys with all its parts on this machine: server, persister, worker, Redis and PostgreSQL.
      Each part can be turned off or on by itself
    '';

    package = mkOption {
      type = types.package;
      defaultText = literalExpression "imgsys.packages.\${system}.imgsys";
      description = "The package with the programs and units of imgsys.";
    };

    settings = mkOption {
      default = { };
      example = literalExpression ''
        {
          server.listen = "0.0.0.0:7450";
          limits.max_image = "32MiB";
        }
      '';
      description = ''
        The configuration file, `/etc/imgsys/imgsys.toml`; `docs/configuration.md` has all its keys.
        It is checked while the system is built. Secrets don't belong here: there are options that
        take a file.
      '';
      type = types.submodule {
        freeformType = toml.type;
        options = {
          server = {
            listen = known types.str "127.0.0.1:7450" "Address on which clients are served.";
            http_listen = known types.str "127.0.0.1:7451" ''
              Address of the HTTP side listener (health, images for workers); empty for none.
            '';
          };
          worker = {
            threads = known types.ints.unsigned 0 "Threads that analyse; 0 for one a core.";
            cache = known types.ints.unsigned 20000 ''
              Analyses kept in Redis, of all workers together, so that an image that was seen before is
              not analysed again; 0 for none.
            '';
            image_sources = known (types.listOf types.str) [ "file:///var/lib/imgsys/images/" ] ''
              URL prefixes under which images are fetched; nothing else is touched.
            '';
          };
          redis.url = known types.str "redis://127.0.0.1:6379/0" ''
            Redis: `redis://HOST:PORT/DB` or `unix:///PATH?db=N`.
          '';
          database.url = known types.str "host=/run/postgresql user=imgsys dbname=imgsys" ''
            PostgreSQL: `postgres://USER@HOST/DB` or `key=value` pairs.
          '';
          auth.insecure = known types.bool false ''
            Listen on addresses that others can reach, even without tokens.
          '';
        };
      };
    };

    server = {
      enable = mkEnableOption "the server, which takes images from clients and keeps them";
      openFirewall = mkEnableOption "" // {
        description = ''
          Whether to open the port for clients in the firewall, and the one of the HTTP side listener
          if others can reach it.
        '';
      };
      imagesDir = mkOption {
        type = types.nullOr types.path;
        default = null;
        example = "/srv/images";
        description = ''
          Directory of the image files, if they are not to be beside the spool in
          `/var/lib/imgsys`. It is made if need be.
        '';
      };
    };

    persister.enable = mkEnableOption "the persister, which writes the history into PostgreSQL";

    worker = {
      enable = mkEnableOption "the worker, which analyses images";
      threads = mkOption {
        type = types.ints.unsigned;
        default = 0;
        description = "Threads that analyse; 0 for one a core.";
      };
      model = mkOption {
        type = types.nullOr types.path;
        default = null;
        defaultText = literalExpression "imgsys.packages.\${system}.model-efficientnet-lite0";
        description = ''
          Directory with `model.onnx`, the classifier, and `labels.txt`, its labels; without one
          labels are simulated. How the model wants to see an image is said in
          `settings.worker.onnx`.
        '';
      };
      tokenFile = secret "the token by which the worker fetches images over HTTP; it needs the scope `worker`";
      imageSources = mkOption {
        type = types.listOf types.str;
        default = [
          "file://${if cfg.server.imagesDir == null then "/var/lib/imgsys/images" else cfg.server.imagesDir}/"
        ];
        defaultText = literalExpression ''[ "file:///var/lib/imgsys/images/" ]'';
        example = [ "http://images.example:7451/images/" ];
        description = ''
          URL prefixes under which images are fetched; nothing else is touched. For servers on other
          machines, what their `settings.server.image_url` is.
        '';
      };
    };

    redis = {
      createLocally = mkEnableOption "" // {
        description = ''
          Whether to run a Redis for imgsys on this machine, which keeps what it is told
          (append-only file, no eviction). Others on this machine can't reach it: it listens on a
          socket only, unless `services.redis.servers.imgsys` says more.
        '';
      };
      passwordFile = secret "the password for Redis";
    };

    database = {
      createLocally = mkEnableOption "" // {
        description = ''
          Whether to make the database on this machine, for the user `imgsys` over PostgreSQL's
          socket.
        '';
      };
      passwordFile = secret "the password for PostgreSQL";
    };

    tokensFile = secret "the tokens of those who may use the server, as `imgsys-server token new` writes it";

    tls = {
      certificate = mkOption {
        type = types.nullOr types.path;
        default = null;
        example = "/var/lib/acme/images.example/fullchain.pem";
        description = ''
          The server's certificate, in PEM, with what leads to its root: then clients are served over
          TLS only. The service gets a copy when it starts, as a credential of systemd; after a
          renewal, restart it.
        '';
      };
      key = secret "the private key of `tls.certificate`, in PEM";
      clientCa = mkOption {
        type = types.nullOr types.path;
        default = null;
        description = ''
          Whoever signs the clients' certificates, in PEM: with it only clients that have one may
          connect.
        '';
      };
      http = mkEnableOption "TLS on the HTTP side listener too, with the same certificate";
    };
  };

  config = {
    services.imgsys = {
      server.enable = lib.mkIf cfg.enable (lib.mkDefault true);
      persister.enable = lib.mkIf cfg.enable (lib.mkDefault true);
      worker.enable = lib.mkIf cfg.enable (lib.mkDefault true);
      redis.createLocally = lib.mkIf cfg.enable (lib.mkDefault true);
      database.createLocally = lib.mkIf cfg.enable (lib.mkDefault true);
    };
  };
}
