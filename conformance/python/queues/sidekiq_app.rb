# The jobs of test_sidekiq.py; REDIS_URL names the server, OUT the file that jobs write to.
require "sidekiq"
require "sidekiq/api"

Sidekiq.configure_server { |config| config.average_scheduled_poll_interval = 1 }

class Note
  include Sidekiq::Worker

  def perform(number)
    File.open(ENV.fetch("OUT"), "a") { |file| file.puts(number) }
  end
end

class Fails
  include Sidekiq::Worker

  def perform
    raise ArgumentError, "no such order"
  end
end
