# Redis and PostgreSQL on the same machine.
{ config, lib, ... }:
let
  inherit (lib) mkIf mkMerge;
  cfg = config.services.imgsys;
  redis = config.services.redis.servers.imgsys;

  # The services of imgsys that run here, and use what is asked for.
  services =
    names: settings:
    mkMerge (map (name: { "imgsys-${name}" = mkIf cfg.${name}.enable settings; }) names);
in
{
  config = mkMerge [
    (mkIf cfg.redis.createLocally {
      services.redis.servers.imgsys = {
        enable = true;
        appendOnly = true;
        save = [ ];
        settings = {
          maxmemory-policy = "noeviction";
          # What comes and goes fills the log soon, and to write it anew takes time.
          auto-aof-rewrite-min-size = "256mb";
          rdbcompression = false;
        };
        requirePassFile = mkIf (cfg.redis.passwordFile != null) cfg.redis.passwordFile;
      };
      services.imgsys.settings.redis.url = lib.mkDefault "unix://${redis.unixSocket}";
      systemd.services = services [ "server" "persister" "worker" ] {
        after = [ "redis-imgsys.service" ];
        serviceConfig.SupplementaryGroups = [ redis.group ];
      };
    })

    (mkIf cfg.database.createLocally {
      services.postgresql = {
        enable = true;
        ensureDatabases = [ "imgsys" ];
        ensureUsers = [
          {
            name = "imgsys";
            ensureDBOwnership = true;
          }
        ];
      };
    })
  ];
}
