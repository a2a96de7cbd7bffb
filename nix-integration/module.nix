# A NixOS module that serves a Twofold cache: services.twofold.enable = true; services.twofold.package = …;
{ config, lib, pkgs, ... }:
let
  cfg = config.services.twofold;
  flag = name: values: lib.concatMap (value: [ name value ]) values;
  arguments =
    [ (lib.getExe cfg.package) "serve" "--data" "/var/lib/twofold" ]
    ++ flag "--listen" cfg.listen
    ++ flag "--max-size" (lib.optional (cfg.maxSize != null) cfg.maxSize)
    ++ flag "--nix-cache" cfg.nixCaches
    ++ cfg.extraArgs;
in
{
  options.services.twofold = {
    enable = lib.mkEnableOption "the Twofold build cache server";
    package = lib.mkOption {
      type = lib.types.package;
      description = "The package with bin/twofold.";
    };
    listen = lib.mkOption {
      type = lib.types.listOf lib.types.str;
      default = [ "127.0.0.1:8980" ];
      description = "Addresses, HOST:PORT or unix:PATH.";
    };
    maxSize = lib.mkOption {
      type = lib.types.nullOr lib.types.str;
      default = null;
      example = "200GiB";
      description = "The most that the data may take; a fifth of the file system when null.";
    };
    nixCaches = lib.mkOption {
      type = lib.types.listOf lib.types.str;
      default = [ ];
      example = [ "main,public,key=/var/lib/secrets/nix.secret" ];
      description = "Nix caches as --nix-cache takes them; the cache default when empty.";
    };
    extraArgs = lib.mkOption {
      type = lib.types.listOf lib.types.str;
      default = [ ];
      description = "Further arguments of twofold serve.";
    };
  };

  config = lib.mkIf cfg.enable {
    systemd.services.twofold = {
      description = "Twofold build cache server";
      wantedBy = [ "multi-user.target" ];
      after = [ "network.target" ];
      serviceConfig = {
        ExecStart = lib.escapeShellArgs arguments;
        DynamicUser = true;
        StateDirectory = "twofold";
        Restart = "on-failure";
        # The server finishes what it has begun.
        TimeoutStopSec = 45;
        LimitNOFILE = 65536;
      };
    };
  };
}
