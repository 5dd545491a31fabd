# Keeps the history: PostgreSQL, and the persister beside it.
{
  services.imgsys = {
    persister.enable = true;
    database.createLocally = true;
    redis.passwordFile = "/run/secrets/imgsys-redis";
    settings.redis.url = "redis://images.example:6379/0";
  };

  services.postgresql = {
    enableTCPIP = true;
    authentication = "host imgsys imgsys 192.0.2.0/24 scram-sha-256";
  };
  networking.firewall.allowedTCPPorts = [ 5432 ];
}
