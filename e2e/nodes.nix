# What the machines of the scenarios are on NixOS; nodes.py says the same for Debian hosts.
let
  password = {
    environment.etc."imgsys-e2e/redis-password".text = "of-the-test-network\n";
    services.imgsys.redis.passwordFile = "/etc/imgsys-e2e/redis-password";
  };
  network = {
    imports = [ password ];
    services.imgsys.settings = {
      redis.url = "redis://redis:6379/0";
      database.url = "host=postgres user=imgsys dbname=imgsys";
    };
  };

  # Slow and with a short lease, so that a cut hits tasks that run, and they are soon taken over.
  worker = {
    imports = [ network ];
    services.imgsys = {
      worker = {
        enable = true;
        threads = 2;
        imageSources = [ "http://server:7451/images/" ];
      };
      settings.worker = {
        classifier = "simulated";
        delay = "50ms";
        lease = "5s";
      };
    };
  };
in
{
  redis = {
    imports = [ password ];
    services.imgsys.redis.createLocally = true;
    services.redis.servers.imgsys = {
      port = 6379;
      bind = "0.0.0.0";
      openFirewall = true;
    };
  };

  postgres = {
    services.imgsys.database.createLocally = true;
    services.postgresql = {
      enableTCPIP = true;
      # The test driver gives machines addresses of both kinds.
      authentication = ''
        host imgsys imgsys 192.168.1.0/24 trust
        host imgsys imgsys 2001:db8:1::/64 trust
      '';
    };
    networking.firewall.allowedTCPPorts = [ 5432 ];
  };

  server = {
    imports = [ network ];
    services.imgsys = {
      server = {
        enable = true;
        openFirewall = true;
      };
      settings = {
        server = {
          listen = "0.0.0.0:7450";
          http_listen = "0.0.0.0:7451";
          image_url = "http://server:7451/images/";
          sweep_interval = "1s";
        };
        auth.insecure = true;
      };
    };
  };

  persister = {
    imports = [ network ];
    services.imgsys = {
      persister.enable = true;
      settings.persister.claim_after = "5s";
    };
  };

  worker1 = worker;
  worker2 = worker;
  worker3 = worker;

  # The next two are started by the scenario, once their secrets are there.
  secure =
    { lib, pkgs, ... }:
    {
      imports = [ network ];
      environment.systemPackages = [ pkgs.openssl ];
      services.imgsys = {
        server = {
          enable = true;
          openFirewall = true;
        };
        tokensFile = "/root/secrets/tokens.toml";
        tls = {
          certificate = "/root/secrets/server.pem";
          key = "/root/secrets/server.key";
          http = true;
        };
        settings.server = {
          listen = "0.0.0.0:7450";
          http_listen = "0.0.0.0:7451";
          image_url = "https://secure:7451/images/";
          sweep_interval = "1s";
        };
      };
      systemd.services.imgsys-server.wantedBy = lib.mkForce [ ];
    };

  remote =
    { lib, ... }:
    {
      imports = [ network ];
      services.imgsys.worker = {
        enable = true;
        threads = 2;
        imageSources = [ "https://secure:7451/images/" ];
        tokenFile = "/root/secrets/worker-token";
      };
      services.imgsys.settings.worker.classifier = "simulated";
      systemd.services.imgsys-worker = {
        wantedBy = lib.mkForce [ ];
        # Not there when the configuration is checked.
        environment.IMGSYS_WORKER_IMAGES_CA = "/var/lib/imgsys-e2e/ca.pem";
      };
    };

  # The example as it is, with Celery of nixpkgs.
  python =
    { pkgs, ... }:
    let
      python = pkgs.python3.withPackages (packages: [
        packages.celery
        packages.pillow
        packages.redis
      ]);
    in
    {
      systemd.services.python-worker = {
        wantedBy = [ "multi-user.target" ];
        wants = [ "network-online.target" ];
        after = [ "network-online.target" ];
        environment = {
          PYTHONPATH = "${../examples/python-worker}";
          IMGSYS_REDIS_URL = "redis://:of-the-test-network@redis:6379/0";
          IMGSYS_IMAGE_SOURCES = "http://server:7451/images/";
          IMGSYS_LEASE = "5";
          IMGSYS_DELAY = "0.05";
        };
        serviceConfig = {
          DynamicUser = true;
          Restart = "always";
          RestartSec = "1s";
          ExecStart = "${python}/bin/celery -A worker worker -Q imgsys --concurrency 2 --loglevel info";
        };
      };
    };

  client = { };

  single.services.imgsys.enable = true;
}
