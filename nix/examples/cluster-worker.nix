# Analyses images. There may be as many of these as one likes.
{
  services.imgsys = {
    worker = {
      enable = true;
      imageSources = [ "https://images.example:7451/images/" ];
      # A token with the scope worker, which `imgsys-server token new` makes on the server.
      tokenFile = "/run/secrets/imgsys-worker-token";
    };
    redis.passwordFile = "/run/secrets/imgsys-redis";
    settings.redis.url = "redis://images.example:6379/0";
  };
}
